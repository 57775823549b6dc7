"""Collects requests into batches: closed at the token budget, or after five milliseconds.

Requests are tokenized on threads of their own, before they come here. One thread computes; so while
a batch is on the device, the next one collects.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

CLOSE_S = 0.005
"""Longest wait for more requests. Required: the issue names 5 ms."""

T = TypeVar("T")
R = TypeVar("R")


class QueueFull(Exception):
    """As much waits as may wait."""


class Pending(Future[R]):
    """An answer to come, and when its batch began, in nanoseconds since the epoch; 0: it waits."""

    began_ns = 0


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    tokens: int
    since: float
    answer: Pending[R] = field(default_factory=lambda: Pending())


class Batcher(Generic[T, R]):
    """A queue of requests and the thread that computes them in batches."""

    def __init__(
        self,
        compute: Callable[[Sequence[T]], Sequence[R]],
        budget_tokens: Callable[[], int],
        most_waiting_tokens: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`compute` returns one answer for each item, in order; what it raises goes to all."""
        self._compute = compute
        self._budget_tokens = budget_tokens
        self._most = most_waiting_tokens
        self._now = now
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._tokens = 0
        self._was_busy = False
        self._stop = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="headrace-device", daemon=True)
        self.batches = 0

    @property
    def waiting_tokens(self) -> int:
        return self._tokens

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def submit(self, item: T, tokens: int) -> Pending[R]:
        """The answer, later.

        Raises:
            QueueFull: too much waits already; one request alone always fits.
        """
        with self._changed:
            if self._stop or (self._tokens and self._tokens + tokens > self._most):
                raise QueueFull
            found: _Waiting[T, R] = _Waiting(item, max(1, tokens), self._now())
            self._waiting.append(found)
            self._tokens += found.tokens
            self._changed.notify()
        return found.answer

    def close(self) -> None:
        """Compute what waits, then end."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch = self._next()
            if not batch:
                return
            self.batches += 1
            for one in batch:
                one.answer.began_ns = time.time_ns()
            try:
                answers = self._compute([one.item for one in batch])
                for one, answer in zip(batch, answers, strict=True):
                    one.answer.set_result(answer)
            except BaseException as error:
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)

    def _next(self) -> list[_Waiting[T, R]]:
        """The next batch; empty when this is to end.

        A lone client is not kept waiting: five milliseconds are waited only where the batch before
        had several requests, so that more are likely to come.
        """
        with self._changed:
            while not self._waiting and not self._stop:
                self._changed.wait()
            while self._waiting and not self._stop and self._was_busy:
                left = self._waiting[0].since + CLOSE_S - self._now()
                if left <= 0 or self._tokens >= self._budget_tokens():
                    break
                self._changed.wait(left)
            batch = self._take()
            self._was_busy = len(batch) > 1 or bool(self._waiting)
            return batch

    def _take(self) -> list[_Waiting[T, R]]:
        """Requests in their order, as many as fit the budget, at least one."""
        found: list[_Waiting[T, R]] = []
        left = self._budget_tokens()
        while self._waiting and (not found or self._waiting[0].tokens <= left):
            found.append(self._waiting.popleft())
            left -= found[-1].tokens
            self._tokens -= found[-1].tokens
        return found
