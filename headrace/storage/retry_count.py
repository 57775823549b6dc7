"""Counts how often a thread's calls to a store were retried; the stages read it."""

from __future__ import annotations

import threading


class _Count(threading.local):
    made = 0


_count = _Count()


def count_retry(*_: object) -> None:
    """Count one retry."""
    _count.made += 1


def retries_of_thread() -> int:
    """Retries since the thread started."""
    return _count.made
