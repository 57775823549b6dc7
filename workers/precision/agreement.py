"""How close a model's answers in one precision are to those in another. Pure: arrays in, numbers
out.

A task says what its numbers are (`ComparableOutput`); this module says which of them decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.tasks.contract import ComparableOutput
from schemas.records.precision import Measure

DECISION = 0.5
"""The threshold at which an independent label counts as assigned."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """See `schemas.records.precision.Agreement`."""

    measure: Measure
    share: float
    compared: int
    mean_difference: float
    max_difference: float
    differing: int | None = None
    lowest: float | None = None
    entities: float | None = None


def compare(exact: ComparableOutput, rounded: ComparableOutput) -> Comparison:
    """How close the rounded answers are; both are of the same rows, in the same order.

    A number that is not finite counts as 0 in vectors and values, and as another label.

    Raises:
        ValueError: they are not of the same kind or shape, or there are none.
    """
    one, two = exact.numbers, rounded.numbers
    if exact.kind != rounded.kind or one.shape != two.shape or not one.size:
        raise ValueError(
            f"{exact.kind} {one.shape} cannot be compared with {rounded.kind} {two.shape}"
        )
    if exact.kind == "vectors":
        return _by_cosine(one, two)
    if exact.kind == "values":
        return _by_correlation(one, two)
    return _by_labels(exact, rounded)


def _by_labels(exact: ComparableOutput, rounded: ComparableOutput) -> Comparison:
    one, two = exact.numbers, rounded.numbers
    best = one.argmax(axis=1), two.argmax(axis=1)
    same = (best[0] == best[1]) & np.isfinite(two).all(axis=1)
    if exact.kind == "independent":
        same &= ((one >= DECISION) == (two >= DECISION)).all(axis=1)
    entities = None
    if exact.quiet is not None:
        loud = (best[0] != exact.quiet) | (best[1] != exact.quiet)
        entities = float(same[loud].mean()) if loud.any() else 1.0
    mean, largest = _differences(one, two)
    differing = int((~same).sum())
    return Comparison(
        "labels", float(same.mean()), len(same), mean, largest, differing, entities=entities
    )


def _by_cosine(one: np.ndarray, two: np.ndarray) -> Comparison:
    cosines = _cosines(_finite(one), _finite(two))
    mean, largest = _differences(one, two)
    lowest = float(cosines.min())
    return Comparison("cosine", float(cosines.mean()), len(cosines), mean, largest, lowest=lowest)


def _by_correlation(one: np.ndarray, two: np.ndarray) -> Comparison:
    """Pearson's r of the worst column. If float32 gives the same value for every row, the other must too."""
    columns = [_finite(x).T - _finite(x).mean(axis=0)[:, None] for x in (one, two)]
    return Comparison(
        "correlation", float(_cosines(*columns).min()), len(one), *_differences(one, two)
    )


def _cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Cosines of corresponding lines, float64 `[n]`; two lines of zeros agree."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(np.where(both_zero, 1.0, np.clip(cosines, -1.0, 1.0)))


def _differences(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """The largest difference of each line: their mean and their maximum."""
    largest = np.abs(_finite(one) - _finite(two)).max(axis=1)
    return float(largest.mean()), float(largest.max())


def _finite(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0))
