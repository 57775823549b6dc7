"""Batches by tokens: rows of like length together, in an order by chance that a seed decides. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

MOST_TOKENS = 4_096
FEWEST_ROWS = 8
STEPS = 500
"""Chosen: a small set of labelled rows is still seen in so many steps, with smaller batches."""
JITTER = 0.1
"""Chosen: lengths are sorted as if up to a tenth longer, so that each epoch has other batches."""


def default_budget(lengths: np.ndarray, epochs: float) -> int:
    """Tokens of a batch for training rows of these lengths (int64 `[rows]`).

    As large as is quick on a CPU, smaller where there would be few steps, and eight rows of the
    mean length at least.
    """
    total = int(lengths.sum())
    wanted = min(MOST_TOKENS, math.ceil(total * epochs / STEPS))
    return max(wanted, math.ceil(FEWEST_ROWS * total / max(1, len(lengths))), int(lengths.max()))


class TokenBatches:
    """Row numbers in batches, for all epochs in turn; each call of `iter` begins at the first.

    One sequence for the whole training, so that a resume skips batches and nothing else. The same
    rows, budget, epochs and seed give the same batches.
    """

    def __init__(
        self, rows: np.ndarray, lengths: np.ndarray, budget: int, epochs: float, seed: int
    ) -> None:
        """`rows` are row numbers, `lengths` their tokens, int64 `[k]` each."""
        self._rows, self._lengths = rows, lengths
        self._budget, self._seed = budget, seed
        whole = math.ceil(epochs)
        counts = [len(self._cuts(self._order(epoch))) for epoch in range(whole)]
        counts[-1] = max(1, math.ceil(counts[-1] * (epochs - (whole - 1))))
        self.ends: list[int] = np.cumsum(counts).tolist()
        """Batches up to the end of each epoch."""

    def __len__(self) -> int:
        return self.ends[-1]

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        for epoch, end in enumerate(self.ends):
            order = self._order(epoch)
            batches = np.split(self._rows[order], self._cuts(order)[:-1])
            chance = np.random.default_rng((self._seed, epoch, 1))
            for at in chance.permutation(len(batches))[: end - start]:
                yield batches[at].tolist()
            start = end

    def epoch_at(self, step: int) -> float:
        """Epochs that are done after so many batches."""
        start = 0
        for epoch, end in enumerate(self.ends):
            if step <= end:
                return epoch + (step - start) / max(1, end - start)
            start = end
        return float(len(self.ends))

    def _order(self, epoch: int) -> np.ndarray:
        chance = np.random.default_rng((self._seed, epoch, 0))
        longer = self._lengths * (1.0 + JITTER * chance.random(len(self._lengths)))
        order: np.ndarray = np.argsort(longer, kind="stable")
        return order

    def _cuts(self, order: np.ndarray) -> list[int]:
        """Where each batch ends; a batch is padded to its longest row, which counts."""
        ends: list[int] = []
        start = widest = 0
        for at, length in enumerate(self._lengths[order].tolist()):
            wider = max(widest, length)
            if at > start and wider * (at + 1 - start) > self._budget:
                ends.append(at)
                start, wider = at, length
            widest = wider
        return [*ends, len(order)]
