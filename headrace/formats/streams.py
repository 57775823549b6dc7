"""Streams of rows that keep their position, so that the next span continues from there.

A row group of 1.3 GB becomes about thirty chunks. Without streams, each chunk would read the row
group from its beginning: half of it, on average. A worker that keeps its last streams reads such a
unit only once per stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 2  # chosen: a worker reads one chunk while it begins the next


class _Stream(Generic[T]):
    """Pieces of an iterator; `at` is the number of the next row."""

    def __init__(self, pieces: Iterator[T]) -> None:
        self._pieces = pieces
        self._rest: T | None = None
        self.at = 0

    def next(self, skip: int, rows: int, cut: Callable[[T, int, int], T]) -> T | None:
        """The next piece at or after row `skip`, of at most `rows` rows; None at the end."""
        while True:
            piece = next(self._pieces, None) if self._rest is None else self._rest
            self._rest = None
            if piece is None:
                return None
            size = len(piece)  # type: ignore[arg-type]
            low = min(size, max(0, skip - self.at))
            high = min(size, low + rows)
            if high < size:
                self._rest = cut(piece, high, size)
            self.at += high
            if low < high:
                return piece if high - low == size else cut(piece, low, high)


class Streams(Generic[T]):
    """Reads spans of rows from streams, and keeps the last few. Thread-safe."""

    def __init__(self, cut: Callable[[T, int, int], T], kept: int = KEPT) -> None:
        self._cut = cut
        self._most = kept
        self._lock = threading.Lock()
        self._kept: list[tuple[Hashable, _Stream[T]]] = []

    def read(
        self,
        key: Hashable,
        start: Callable[[], Iterator[T]],
        skip: int,
        rows: int,
        *,
        keep: bool = True,
    ) -> Iterator[T]:
        """Rows `skip … skip + rows` of the stream that `start` opens; fewer if it ends before.

        A stream of the same `key` that was left at or before `skip` is used instead. With `keep`
        it is kept for the next reader, from the moment the last piece is handed out.
        """
        stream = self._take(key, skip) or _Stream(start())
        left = rows
        while left > 0:
            piece = stream.next(skip, left, self._cut)
            if piece is None:
                return
            left -= len(piece)  # type: ignore[arg-type]
            if left == 0 and keep:
                self._put(key, stream)
            yield piece

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def _take(self, key: Hashable, skip: int) -> _Stream[T] | None:
        """The kept stream that is nearest before the row; it is removed from those kept."""
        with self._lock:
            fit = [i for i, (k, s) in enumerate(self._kept) if k == key and s.at <= skip]
            if not fit:
                return None
            return self._kept.pop(max(fit, key=lambda i: self._kept[i][1].at))[1]

    def _put(self, key: Hashable, stream: _Stream[T]) -> None:
        with self._lock:
            self._kept.append((key, stream))
            del self._kept[: -self._most]
