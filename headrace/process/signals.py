"""SIGINT and SIGTERM as an event that a loop waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def set_from_handler(event: threading.Event) -> None:
    """Set an event from a signal's handler, soon after.

    The handler may interrupt a `wait` or a `set` that holds the event's lock in its own thread: so
    another thread sets it, and the handler waits for no lock.
    """
    threading.Thread(target=event.set, daemon=True).start()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal has its default effect.

    Only for the main thread of a process.
    """
    asked = threading.Event()
    earlier: dict[int, Any] = {}

    def ask(signum: int, frame: object) -> None:
        set_from_handler(asked)
        signal.signal(signum, earlier[signum])

    for signum in (signal.SIGINT, signal.SIGTERM):
        earlier[signum] = signal.signal(signum, ask)
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
