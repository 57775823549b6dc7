"""Two models on the same rows, from counts alone. Pure.

A pair of answers is a label of A and a label of B. Rows with the same text are one observation,
since they bring no more evidence than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from producers.quality.intervals import Interval, bootstrap, wilson

Of = TypeVar("Of")
"""What is known of one value of a slice."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows that went from one label to another."""

    before: str
    after: str
    rows: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two models give one label."""

    labels: tuple[str, ...]
    table: np.ndarray
    """int64 `[labels, labels]`: rows by the label of A, then by the label of B."""

    @property
    def rows(self) -> int:
        return int(self.table.sum())

    @property
    def flips(self) -> Interval:
        """The share of rows whose label changed, with Wilson's interval."""
        return wilson(self.rows - int(np.trace(self.table)), self.rows)

    @property
    def kappa(self) -> float:
        """Agreement beyond chance; 1 where all rows agree.

        Source: Cohen, A coefficient of agreement for nominal scales, 1960
        """
        if not self.rows:
            return float("nan")
        same = np.trace(self.table) / self.rows
        chance = float(self.table.sum(axis=0) @ self.table.sum(axis=1)) / self.rows**2
        return 1.0 if chance >= 1.0 else float((same - chance) / (1 - chance))

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Every change of label, the most frequent first."""
        places = [(i, j) for i, j in zip(*np.nonzero(self.table), strict=True) if i != j]
        found = [Flow(self.labels[i], self.labels[j], int(self.table[i, j])) for i, j in places]
        return tuple(sorted(found, key=lambda flow: (-flow.rows, flow.before, flow.after)))


@dataclass(frozen=True, slots=True)
class Paired:
    """Which of two models was right, row by row."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def rows(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def accuracies(self) -> tuple[Interval, Interval]:
        """Of A and of B, each with Wilson's interval."""
        return (
            wilson(self.both + self.only_a, self.rows),
            wilson(self.both + self.only_b, self.rows),
        )

    @property
    def delta(self) -> Interval:
        """Accuracy of B less that of A, with the bootstrap interval of the paired table."""
        table = np.array([self.both, self.only_a, self.only_b, self.neither])
        return bootstrap(table, lambda t: float((t[2] - t[1]) / max(1, t.sum())))

    @property
    def p_value(self) -> float:
        """The probability of such a difference by chance: McNemar's exact test, two-sided.

        Source: McNemar, Note on the sampling error of the difference, 1947
        """
        n, k = self.only_a + self.only_b, min(self.only_a, self.only_b)
        if n == 0:
            return 1.0
        half = n * math.log(2)
        tail = sum(math.exp(_log_choose(n, i) - half) for i in range(k + 1))
        return min(1.0, 2 * tail)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values corrected for their number.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979
    """
    corrected: dict[str, float] = {}
    worst = 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, p * (len(p_values) - place)))
        corrected[name] = worst
    return corrected


@dataclass(frozen=True, slots=True)
class Gate:
    """Conditions under which B may replace A; None: no such condition."""

    min_accuracy_delta: float | None = None
    """The lower end of the difference's interval must reach it, e.g. -0.005."""
    max_flips: float | None = None
    """The upper end of the flip share's interval must not pass it."""
    slices: Mapping[str, float] | None = None
    """Slice column → the least delta of each of its values."""
    min_f1_delta: float | None = None
    """Of entities, in place of `min_accuracy_delta`."""


def refusals(
    gate: Gate,
    agreement: Agreement,
    paired: Paired | None,
    slices: Mapping[str, Mapping[str, Paired]],
) -> list[str]:
    """Why the gate refuses B; empty: it passes. An interval's worse end decides."""
    found: list[str] = []
    if gate.max_flips is not None and not agreement.flips.high <= gate.max_flips:
        found.append(
            f"labels changed: up to {agreement.flips.high:.2%} of rows, allowed {gate.max_flips:.2%}"
        )
    if gate.min_accuracy_delta is not None:
        found += _of_accuracy("accuracy", paired, gate.min_accuracy_delta)
    return [*found, *refused_slices(gate, slices, _of_accuracy)]


def refused_slices(
    gate: Gate,
    slices: Mapping[str, Mapping[str, Of]],
    too_low: Callable[[str, Of, float], list[str]],
) -> list[str]:
    """Why the gate refuses values of its slices, each judged by `too_low`."""
    found: list[str] = []
    for column, least in (gate.slices or {}).items():
        if column not in slices:
            found.append(f"{column}: no slice of that name was compared")
        for value, its in sorted(slices.get(column, {}).items()):
            found += too_low(f"{column}={value}", its, least)
    return found


def too_low(
    what: str, delta: Interval | None, least: float, *, missing: str, form: str
) -> list[str]:
    """Why a difference is refused; `missing` says why there is none, `form` is that of a number."""
    if delta is None:
        return [f"{what}: {missing}"]
    if delta.low >= least:
        return []
    value, low, allowed = (format(number, form) for number in (delta.value, delta.low, least))
    return [f"{what}: B less A is {value}, and may be {low}; allowed {allowed}"]


def _of_accuracy(what: str, paired: Paired | None, least: float) -> list[str]:
    delta = paired.delta if paired is not None and paired.rows else None
    return too_low(what, delta, least, missing="no row has a gold label", form="+.2%")


def table_of(labels: Sequence[str], codes: np.ndarray) -> np.ndarray:
    """Counts int64 `[labels, labels]` of pairs coded as `a * labels + b`."""
    width = len(labels)
    return np.bincount(codes, minlength=width * width).reshape(width, width)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
