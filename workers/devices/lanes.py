"""Runs batches of one model side by side on a CPU: one batch a thread, one core each.

The weights are there once. torch lets go of Python's lock while an operation runs, so that the
threads share little but memory. A batch of a small model is too small to be split over cores: one
batch on each core does more than all cores on one batch (see docs/about/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Lanes:
    """Threads that run one batch each; made when the first batch starts."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.in_flight = count + max(1, count // 2)
        """Batches to start before the first one's output is awaited. Chosen: outputs are taken in
        order, so that a lane that is done before its neighbours needs a batch that waits."""
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="headrace-lane")

    def start(self, run: Callable[[], T]) -> Callable[[], T]:
        """Run it on the next free thread; what is returned waits for its result or its error."""
        return self._pool.submit(run).result
