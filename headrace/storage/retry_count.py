"""How often this thread's calls of a store were made again: counted there, read by the stages."""

from __future__ import annotations

import threading


class _Count(threading.local):
    made = 0


_count = _Count()


def count_retry(*_: object) -> None:
    """One call is about to be made again."""
    _count.made += 1


def retries_of_thread() -> int:
    """Since the thread began."""
    return _count.made
