"""Intervals of shares and of scores made from a table of counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1_000
"""Chosen: the ends of a 95 % interval then move by about a fiftieth of its width."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(hits: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """The share `hits / of` with its score interval; of nothing: 0 to 1.

    Source: Wilson, Probable inference, 1927
    """
    if of == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return Interval(share, float(max(0.0, middle - half)), float(min(1.0, middle + half)))


def bootstrap(counts: np.ndarray, score: Callable[[np.ndarray], float], seed: int = 0) -> Interval:
    """The score of a table of counts, with the percentile interval of resampled tables.

    Resampling rows with replacement is drawing their table from a multinomial, so the rows
    themselves are not needed. The same table and seed give the same interval.

    Source: Efron and Tibshirani, An introduction to the bootstrap, 1993
    """
    flat = counts.ravel()
    total = int(flat.sum())
    value = float(score(counts))
    if total == 0:
        return Interval(value, float("nan"), float("nan"))
    draw = np.random.default_rng(seed)
    tables = draw.multinomial(total, flat / total, size=RESAMPLES)
    scores = np.array([score(table.reshape(counts.shape)) for table in tables])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(scores, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
