"""Which rows share a batch: longest first, under a budget of tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

MOST_PADDING = 0.03
"""Share of a padded batch's tokens. Chosen: batches of a window of 1,000 rows stay large."""
FREE_PADDING = 10
"""Padding that a batch may always have, in tokens. Chosen: a batch of its own costs more than that.
DeBERTa-v3 takes as long for a batch of four tokens as for 70 tokens in a large one (measured)."""


def pack(lengths: np.ndarray, budget_tokens: int, *, padded: bool) -> list[np.ndarray]:
    """Positions of the rows of each batch, longest row first; every row is in exactly one batch.

    `lengths` is an integer array `[rows]`; each batch is int64 `[k]`, k >= 1. With `padded`, a
    batch costs its rows times its longest row, and ends before its padding is more than
    `MOST_PADDING` of it; without, it costs the sum of its rows. A row longer than the budget is
    alone. Rows of one length keep their order, so that the result is a function of its arguments.

    With the longest rows first, out-of-memory shows in the first batch. Sorting by length reduces
    padding, and makes longer runs of equal length.

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
    total = np.concatenate(([0], np.cumsum(widths)))
    start = 0
    while start < len(widths):
        # lengths descend, so every row of the batch is padded to the first
        rows = max(1, budget // max(1, int(widths[start])))
        stop = min(start + rows, len(widths))
        costs = np.arange(1, stop - start + 1) * widths[start]
        padding = costs - (total[start + 1 : stop + 1] - total[start])
        too_much = padding > np.maximum(MOST_PADDING * costs, FREE_PADDING)
        if too_much.any():  # not of the first row, which has none
            stop = start + int(too_much.argmax())
            # the rows of one length stay together: then none of them is padded
            first_of_length = int(np.searchsorted(-widths, -widths[stop]))
            stop = first_of_length if first_of_length > start else stop
        yield start, stop
        start = stop


def _cut_packed(widths: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    # an empty row costs one token, so that a batch has a limited number of rows
    total = np.cumsum(np.maximum(widths, 1))
    start = spent = 0
    while start < len(widths):
        stop = max(start + 1, int(np.searchsorted(total, spent + budget, side="right")))
        yield start, stop
        start, spent = stop, int(total[stop - 1])


@dataclass(frozen=True, slots=True)
class Budget:
    """The tokens a batch may have on one device, and the smallest size that did not fit."""

    tokens: int
    failed_at: int | None = None
    """Tokens of the smallest batch that did not fit; None: none failed so far."""

    def after_out_of_memory(self, batch_tokens: int) -> Budget:
        """The budget after out-of-memory: half of what failed; at least one token."""
        failed = min(batch_tokens, self.failed_at or batch_tokens)
        return replace(self, tokens=max(1, min(self.tokens, failed // 2)), failed_at=failed)

    def set_by_hand(self, tokens: int) -> Budget:
        """The user's budget; half of what failed, if that size is known to fail."""
        failed = self.failed_at
        fits = failed is None or tokens < failed
        return replace(self, tokens=tokens if fits else max(1, (failed or 0) // 2))


def halves(rows: np.ndarray) -> list[np.ndarray]:
    """Split a batch that did not fit into two; a single row stays as it is."""
    middle = (len(rows) + 1) // 2
    return [part for part in (rows[:middle], rows[middle:]) if len(part)]
