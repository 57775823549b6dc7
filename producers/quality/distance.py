"""The distance between two tables of counts, corrected for chance. Pure.

The distance is Jensen-Shannon's: the square root of the divergence in bits, 0 for equal shares and
1 for shares that have no cell in common. Counts of a finite night are never equal, so the
divergence that two draws from one table would have is taken away first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 100
"""Chosen: the mean of a hundred is good to a tenth of their spread."""
SURE = 4.0
"""Chosen: standard deviations of a normal distribution; chance goes beyond them once in 30,000 times,
so that a year of nights with a dozen features each has no such alarm."""
SMALLEST_SHARE = 1e-4
"""Of a cell, in the PSI, which has no value where one is empty. Usual."""
RARE = 10
"""Tokens seen less often in both together are one cell. Chosen: the divergence of frequent cells
falls as one over the number of rows, that of rare ones does not."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Of one table of counts from another."""

    divergence: float
    """Jensen-Shannon, in bits, as counted."""
    bias: float
    """The mean divergence of two samples of these sizes from one table."""
    spread: float
    """Standard deviation of the same."""
    psi: float
    """Population stability index, a common measure: below 0.1 is called small, above 0.25 large."""

    @property
    def value(self) -> float:
        """The distance, 0 to 1, with the bias taken out."""
        return math.sqrt(max(0.0, self.divergence - self.bias))

    @property
    def is_beyond_chance(self) -> bool:
        return self.divergence > self.most_by_chance

    @property
    def most_by_chance(self) -> float:
        """A divergence that two samples from one table exceed once in 30,000 times.

        Source: Wilson and Hilferty, The distribution of chi-square, 1931; with few cells the
        divergence has a far longer tail than a normal distribution.
        """
        if self.bias <= 0:
            return 0.0
        part = (self.spread / self.bias) ** 2 / 9
        return self.bias * max(0.0, 1 - part + SURE * math.sqrt(part)) ** 3


def distance_of(before: Mapping[Any, int], after: Mapping[Any, int]) -> Distance:
    """Of two tables whose counts are rows, each drawn by itself; empty ones are 0 apart."""
    cells = sorted({*before, *after}, key=str)
    one, two = (np.array([t.get(c, 0) for c in cells], dtype=np.int64) for t in (before, after))
    return distance(one, two)


def distance(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Distance:
    """The same of counts int64 `[cells]`; the same counts and seed give the same distance."""
    sizes = int(before.sum()), int(after.sum())
    if not all(sizes):
        return Distance(0.0, 0.0, 0.0, 0.0)
    pooled = (before / sizes[0] + after / sizes[1]) / 2
    draw = np.random.default_rng(seed)
    ones, twos = (draw.multinomial(size, pooled, RESAMPLES) / size for size in sizes)
    by_chance = divergences(ones, twos)
    return Distance(
        float(divergences(before / sizes[0], after / sizes[1])),
        float(by_chance.mean()),
        float(by_chance.std()),
        psi(before, after),
    )


def halved_distance(before: np.ndarray, after: np.ndarray) -> Distance:
    """Of counts int64 `[2, cells]` of things that come in clusters, as words do in texts.

    Each table is in two halves of its rows, drawn at random. The divergence of the halves is what
    chance makes at half of the size, however the words cluster; it falls as one over the size.
    """
    sizes = int(before.sum()), int(after.sum())
    if not all(sizes):
        return Distance(0.0, 0.0, 0.0, 0.0)
    before, after = _rare_joined(before, after)
    bias = sum(_of_halves(table) for table in (before, after))
    whole = before.sum(axis=0), after.sum(axis=0)
    divergence = float(divergences(whole[0] / sizes[0], whole[1] / sizes[1]))
    # a sum of squares over cells moves by the root of two over their number; twice that, since
    # words move together, and since the bias is measured on one split alone (counted: 5 alarms in
    # 900 small nights without the factor, none with it)
    spread = 2 * bias * math.sqrt(2 / max(1, before.shape[1] - 1))
    return Distance(divergence, bias, spread, psi(*whole))


def _of_halves(table: np.ndarray) -> float:
    """The share of one table in the bias, from its own two halves."""
    first, second = table.sum(axis=1).tolist()
    if not first or not second:
        return 0.0
    found = float(divergences(table[0] / first, table[1] / second))
    return float(found / (1 / first + 1 / second) / (first + second))


def _rare_joined(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    often = (before.sum(axis=0) + after.sum(axis=0)) >= RARE
    joined = [
        np.concatenate([t[:, often], t[:, ~often].sum(axis=1, keepdims=True)], axis=1)
        for t in (before, after)
    ]
    return joined[0], joined[1]


def divergences(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Jensen-Shannon's divergence in bits of shares `[…, cells]`, along the last axis.

    Source: Lin, Divergence measures based on the Shannon entropy, 1991
    """
    return np.asarray(contributions(before, after).sum(axis=-1))


def contributions(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What each cell adds to the divergence; none is below 0."""
    middle = (before + after) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [
            np.where(share > 0, share * np.log2(share / middle), 0.0) for share in (before, after)
        ]
    return np.asarray(np.maximum(parts[0] + parts[1], 0.0) / 2)


def psi(before: np.ndarray, after: np.ndarray) -> float:
    """The population stability index of counts `[cells]`.

    Source: Siddiqi, Credit risk scorecards, 2006
    """
    shares = [np.maximum(t / max(1, t.sum()), SMALLEST_SHARE) for t in (before, after)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def joined_bins(
    before: Mapping[int, int], after: Mapping[int, int], most: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both by at most so many bins, which hold about equal shares of both together."""
    bins = sorted({*before, *after})
    tables = [np.array([t.get(b, 0) for b in bins], dtype=np.int64) for t in (before, after)]
    if not bins:
        return tables[0], tables[1]
    shares = sum(t / max(1, t.sum()) for t in tables) / 2
    below = np.cumsum(shares) - shares  # a bin that many rows have stays a bin by itself
    groups = np.minimum(most - 1, (below * most + 1e-9).astype(np.int64))
    joined = [np.bincount(groups, weights=t).astype(np.int64) for t in tables]
    return joined[0], joined[1]
