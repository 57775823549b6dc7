"""How long the device was at work in a run: the rest of the run it waited."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class DeviceClock:
    """Seconds between the first and the last operation of each batch, on the device.

    On a GPU by its own events: a batch may be launched while the one before it still runs, and the
    host's clock would count both. Work of one stream is done in turn, so the pairs never overlap.
    What the device waits within a batch, for the next launch, counts as work. On a CPU the caller
    is the device.
    """

    def __init__(self, device: str) -> None:
        self._on_gpu = device != "cpu"
        self._host_s = 0.0
        self._pairs: list[tuple[Any, Any]] = []

    @contextmanager
    def watching(self, task: Any) -> Iterator[None]:
        """While this is open, what the task computes is timed; neither way of it uses the other."""
        names = [name for name in ("launch", "forward") if hasattr(task, name)]
        for name in names:
            setattr(task, name, self.timed(getattr(task, name)))
        try:
            yield
        finally:
            for name in names:
                delattr(task, name)  # what its class has is seen again

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._on_device() if self._on_gpu else self._on_host():
                return function(*args)

        return call

    def busy_s(self) -> float:
        """Of all that was timed so far; waits for the device."""
        if not self._on_gpu:
            return self._host_s
        import torch

        torch.cuda.synchronize()
        return sum(start.elapsed_time(stop) for start, stop in self._pairs) / 1e3  # from ms

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        import torch

        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        stop.record()
        self._pairs.append((start, stop))  # not after an error: there is no end to read

    @contextmanager
    def _on_host(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._host_s += time.perf_counter() - start


def forget_peak(device: str) -> None:
    """From here on, the GPU's peak counts what is there and what comes: not how that was found."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()


@contextmanager
def unobserved(stage: str, **counters: float) -> Iterator[Any]:
    """A stage that is not timed."""
    yield SimpleNamespace(add=lambda **more: None)
