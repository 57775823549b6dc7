"""Fixed bins for scores, quantities and lengths, the same in every profile, so that counts add up.

A bin is an integer. Bins are fine here; who compares two profiles joins neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

K = TypeVar("K", int, str)

LOGIT_STEP = 0.25
LOGIT_MOST = 16
"""A score of float32 next to 1 has a logit of 16.6."""
PER_OCTAVE = 16
"""Chosen: a bin is 4 % wide, which no difference that matters is lost in."""

_EDGES = np.array(
    [1 / (1 + math.exp(-LOGIT_STEP * step)) for step in range(-LOGIT_MOST * 4, LOGIT_MOST * 4 + 1)]
)
_OCTAVES = np.array([2 ** (step / PER_OCTAVE) for step in range(PER_OCTAVE)])
_ZERO = 1_000 * PER_OCTAVE
"""Above every exponent of a float, so that negative, zero and positive values stay apart."""


def score_bins(scores: np.ndarray) -> np.ndarray:
    """Bins int64 `[n]` of scores in 0 to 1, even on the scale of the logit.

    Half of a good classifier's scores are above 0.99: even bins would put them all in one.
    """
    return np.asarray(np.searchsorted(_EDGES, scores.astype(np.float64), side="right"))


def value_bins(values: np.ndarray) -> np.ndarray:
    """Bins int64 `[n]` of any finite numbers: sixteen an octave, on both sides of 0."""
    values = values.astype(np.float64)
    parts, exponents = np.frexp(np.abs(values))
    within = np.searchsorted(_OCTAVES, parts * 2, side="right") - 1
    size = _ZERO + exponents.astype(np.int64) * PER_OCTAVE + within
    return np.asarray(np.sign(values).astype(np.int64) * np.where(values == 0, 0, size))


def value_of_bin(at: int) -> float:
    """The middle of a bin of `value_bins`."""
    if at == 0:
        return 0.0
    exponent, within = divmod(abs(at) - _ZERO, PER_OCTAVE)
    size = 2.0 ** (exponent - 1 + (within + 0.5) / PER_OCTAVE)
    return math.copysign(size, at)


def counted(bins: np.ndarray, weights: np.ndarray | None = None) -> dict[int, int]:
    """Rows by bin, in order of bin; each row counts as its weight, an integer."""
    if not len(bins):
        return {}
    low = int(bins.min())
    if int(bins.max()) - low > 1 << 20:
        known, inverse = np.unique(bins, return_inverse=True)
        counts = np.bincount(inverse, weights=weights)
        return {int(b): int(n) for b, n in zip(known, counts, strict=True) if n}
    counts = np.bincount(bins - low, weights=weights)
    at = np.flatnonzero(counts)
    return dict(zip((at + low).tolist(), counts[at].astype(np.int64).tolist(), strict=True))


def add_counts(into: dict[K, int], more: Mapping[K, int]) -> None:
    """Add the counts of the second to the first."""
    for key, count in more.items():
        into[key] = into.get(key, 0) + count
