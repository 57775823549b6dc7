"""Bounded queues between stages, one thread each; errors are raised to the other side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.2  # chosen: how soon a thread notices that its items are not wanted any more


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetcher(Generic[T]):
    """An iterator whose items are made on a thread of their own, at most `depth` ahead.

    The thread starts at once. `close` ends it after the current item; so does iterating to the end
    or to an error, which is raised to the iterating thread. Calling `close` twice is safe.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                self._thread.join()
                if item.error is not None:
                    raise item.error
                return
            yield item

    def is_ready(self) -> bool:
        """True when the next item, or the end, is available without waiting."""
        return not self._queue.empty()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _fill(self, items: Iterable[T]) -> None:
        end = _End()
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # raised to the consumer, whatever it is
            end = _End(error)
        self._put(end)

    def _put(self, item: T | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False


class BackgroundWriter(Generic[T]):
    """A consumer on a thread of its own, at most `depth` items behind: `with Behind(...) as put`.

    Leaving the block waits for the last item. An error of the consumer is raised by the next
    `put` or on leaving. If the block itself fails, waiting items are dropped.
    """

    def __init__(self, consume: Callable[[T], None], depth: int, name: str) -> None:
        self._consume = consume
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._drain, name=name, daemon=True)

    def __enter__(self) -> Callable[[T], None]:
        self._thread.start()
        return self._put

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandoned.set()
        self._queue.put(_End())
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _put(self, item: T) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def _drain(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                return
            if self._error is None and not self._abandoned.is_set():
                try:
                    self._consume(item)
                except BaseException as error:  # raised to the producer by the next put
                    self._error = error
