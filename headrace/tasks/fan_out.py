"""Rows that are many items each: a text against twenty labels, a document in ten windows.

The engine packs, halves and retries items; a row is joined from the results of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class FanOut:
    """Which items each row is made of: row i of `item_of[starts[i]:starts[i + 1]]`.

    `starts` is int64 `[rows + 1]`, `item_of` int64 `[places]`: positions of items. Rows may share
    an item, which is computed once; a row may have none. `extra` holds what `join` needs of a row.
    """

    starts: np.ndarray
    item_of: np.ndarray
    extra: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> np.ndarray:
        """Items of each row, int64 `[rows]`."""
        return np.diff(self.starts)

    @property
    def row_of(self) -> np.ndarray:
        """The row of each place, int64 `[places]`."""
        return np.repeat(np.arange(len(self)), self.counts)

    def rows_with(self, items: np.ndarray, count: int) -> np.ndarray:
        """The rows that have any of these items, ascending; `count` is how many items there are."""
        chosen = np.zeros(count, dtype=bool)
        chosen[items] = True
        return np.unique(self.row_of[chosen[self.item_of]])

    def sums(self, of_items: np.ndarray) -> np.ndarray:
        """The sum over each row's items, int64 `[rows]`."""
        total = np.concatenate(([0], np.cumsum(of_items[self.item_of], dtype=np.int64)))
        return np.asarray(total[self.starts[1:]] - total[self.starts[:-1]])

    @classmethod
    def joined(cls, fans: Sequence[FanOut], items: Sequence[int]) -> FanOut:
        """The rows of all, in order; `items` is how many items each has."""
        places = np.cumsum([0, *(len(fan.item_of) for fan in fans)])
        first = np.cumsum([0, *items])
        extras = [fan.extra for fan in fans if fan.extra is not None]
        return cls(
            np.concatenate(
                [[0], *(fan.starts[1:] + at for fan, at in zip(fans, places, strict=False))]
            ),
            np.concatenate([fan.item_of + at for fan, at in zip(fans, first, strict=False)]),
            [it for extra in extras for it in extra] if extras else None,
        )

    def take(self, rows: np.ndarray) -> FanOut:
        """These rows (int64 `[k]`), in that order; items keep their positions."""
        counts = self.counts[rows]
        starts = np.concatenate(([0], np.cumsum(counts)))
        at = np.repeat(self.starts[rows] - starts[:-1], counts) + np.arange(starts[-1])
        extra = None if self.extra is None else [self.extra[int(row)] for row in rows]
        return FanOut(starts, self.item_of[at], extra)
