"""Which rows share a batch: longest first, under a budget of tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np


def pack(lengths: np.ndarray, budget_tokens: int, *, padded: bool) -> list[np.ndarray]:
    """Positions of the rows of each batch, longest row first; every row is in exactly one batch.

    `lengths` is an integer array `[rows]`; each batch is int64 `[k]`, k >= 1. With `padded`, a
    batch costs its rows times its longest row; without, the sum of its rows. A row longer than
    the budget is alone. Rows of one length keep their order, so that the result is a function of
    its arguments.

    Longest first shows out-of-memory with the first batch, and sorting makes padding small where
    there is padding, and runs of equal length long where there is none.

    Raises:
        ValueError: the budget is less than one token.
    """
    if budget_tokens < 1:
        raise ValueError(f"a batch needs a budget of at least 1 token, not {budget_tokens}")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    widths = np.asarray(lengths, dtype=np.int64)[order]
    cuts = _cut_padded(widths, budget_tokens) if padded else _cut_packed(widths, budget_tokens)
    return [order[start:stop] for start, stop in cuts]


def _cut_padded(widths: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(widths):
        # widths fall, so the first is what every row of the batch is padded to
        rows = max(1, budget // max(1, int(widths[start])))
        stop = min(start + rows, len(widths))
        yield start, stop
        start = stop


def _cut_packed(widths: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    # an empty row costs one: a batch of a million empty rows is no batch either
    total = np.cumsum(np.maximum(widths, 1))
    start = spent = 0
    while start < len(widths):
        stop = max(start + 1, int(np.searchsorted(total, spent + budget, side="right")))
        yield start, stop
        start, spent = stop, int(total[stop - 1])


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens a batch may have on one device, and what out-of-memory has taught about it."""

    tokens: int
    failed_at: int | None = None
    """Tokens of the smallest batch that did not fit; None: none failed so far."""

    def after_out_of_memory(self, batch_tokens: int) -> Budget:
        """Half of what failed, and never again as much; at least one token."""
        failed = min(batch_tokens, self.failed_at or batch_tokens)
        return replace(self, tokens=max(1, min(self.tokens, failed // 2)), failed_at=failed)

    def set_by_hand(self, tokens: int) -> Budget:
        """What a person asked for; half of what failed, where it is no less than that."""
        failed = self.failed_at
        fits = failed is None or tokens < failed
        return replace(self, tokens=tokens if fits else max(1, (failed or 0) // 2))


def halves(rows: np.ndarray) -> list[np.ndarray]:
    """A batch that did not fit, as two; one row stays one."""
    middle = (len(rows) + 1) // 2
    return [part for part in (rows[:middle], rows[middle:]) if len(part)]
