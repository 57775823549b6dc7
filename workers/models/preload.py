"""torch and transformers, imported while a worker waits for its first message."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module

from headrace.process.fast_imports import fast_imports

# What every task on a transformers model imports, the slowest of it by far: 2.2 s of processor
# time (measured), of which the last, with what it needs of torch, takes 0.8.
MODULES = ("torch", "transformers.models.auto", "transformers.modeling_utils")


class Preload:
    """Imports on a thread of their own, once, while the process waits for its message.

    Import errors are ignored here; the code that needs the module raises them.
    """

    def __init__(
        self,
        modules: Iterable[str] = MODULES,
        load: Callable[[str], object] = import_module,
        now_s: Callable[[], float] = time.monotonic,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """`then` is called after the imports, on their thread; what it raises is left too."""
        self._modules = tuple(modules)
        self._load = load
        self._now_s = now_s
        self._then = then
        self._began_s = self._seconds = 0.0
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the imports and return; calling it again changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-preload", daemon=True)
            self._thread.start()

    def wait(self, since_s: float | None = None) -> float:
        """Wait for the imports; returns the seconds they took before `since_s`, once, later 0.

        `since_s` is the clock's value when the caller started its own timer; default: this call.
        """
        since_s = self._now_s() if since_s is None else since_s
        self.begin()
        assert self._thread is not None
        self._thread.join()
        ahead_s = min(self._seconds, max(0.0, since_s - self._began_s))
        self._seconds = 0.0
        return ahead_s

    def _run(self) -> None:
        self._began_s = self._now_s()
        with fast_imports():
            for name in self._modules:
                with contextlib.suppress(Exception):  # raised again by the load that needs it
                    self._load(name)
            with contextlib.suppress(Exception):
                self._then()
        self._seconds = self._now_s() - self._began_s
