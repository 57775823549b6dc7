"""Predicted labels against gold labels, from counts alone. Pure.

Precision, recall and F1 of a label that never occurs are 0, as scikit-learn has them with
`zero_division=0`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from producers.quality.intervals import Interval, bootstrap, wilson

BINS = 15
"""Of the calibration. Source: Guo et al., On calibration of modern neural networks, 2017"""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """One label."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    """Rows whose gold label it is."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a table of gold against predicted labels says."""

    labels: tuple[str, ...]
    confusion: np.ndarray
    """int64 `[labels, labels]`: rows by gold label, then by predicted label."""

    @property
    def rows(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> Interval:
        """Share of rows whose predicted label is the gold one, with Wilson's interval."""
        return wilson(int(np.trace(self.confusion)), self.rows)

    @property
    def macro_f1(self) -> Interval:
        """Mean F1 of the labels that occur, gold or predicted, with a bootstrap interval."""
        return bootstrap(self.confusion, lambda table: float(_f1(table)[_occurs(table)].mean()))

    @property
    def weighted_f1(self) -> float:
        """Mean F1 of the labels, weighted by their gold rows."""
        support = self.confusion.sum(axis=1)
        return float(_f1(self.confusion) @ support / support.sum()) if support.sum() else 0.0

    @property
    def by_label(self) -> tuple[LabelScores, ...]:
        """Every label, in order of name."""
        hits = np.diag(self.confusion)
        gold, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return tuple(
            LabelScores(label, float(p), float(r), float(f), int(n))
            for label, p, r, f, n in zip(
                self.labels,
                _ratio(hits, predicted), _ratio(hits, gold), _f1(self.confusion), gold,
                strict=True,
            )
        )  # fmt: skip


@dataclass(slots=True)
class Counts:
    """Pairs of a gold and a predicted label, counted as they come; tables may be added."""

    pairs: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, gold: str, predicted: str, rows: int = 1) -> None:
        self.pairs[gold, predicted] = self.pairs.get((gold, predicted), 0) + rows

    def evaluate(self) -> Evaluation:
        """The table over every label that occurs."""
        labels = tuple(sorted({label for pair in self.pairs for label in pair}))
        at = {label: i for i, label in enumerate(labels)}
        table = np.zeros((len(labels), len(labels)), dtype=np.int64)
        for (gold, predicted), rows in self.pairs.items():
            table[at[gold], at[predicted]] = rows
        return Evaluation(labels, table)


@dataclass(slots=True)
class Calibration:
    """How often rows are right that a model is so sure of: 15 bins of the predicted score."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Sum of the scores in a bin."""

    def add(self, scores: np.ndarray, right: np.ndarray) -> None:
        """Rows by score float `[n]` in 0 to 1, and whether the label was right, bool `[n]`."""
        bins = np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)
        self.rows += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins, weights=right, minlength=BINS).astype(np.int64)
        self.scores += np.bincount(bins, weights=scores, minlength=BINS)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap of score and accuracy, weighted by rows."""
        total = int(self.rows.sum())
        return float(np.abs(self.right - self.scores).sum() / total) if total else float("nan")

    def table(self) -> list[dict[str, Any]]:
        """Each bin that has rows: its upper end, rows, mean score and accuracy."""
        return [
            {
                "up_to": (i + 1) / BINS,
                "rows": int(n),
                "score": float(self.scores[i] / n),
                "accuracy": float(self.right[i] / n),
            }
            for i, n in enumerate(self.rows)
            if n
        ]


def _occurs(table: np.ndarray) -> np.ndarray:
    return np.asarray((table.sum(axis=0) + table.sum(axis=1)) > 0)


def _f1(table: np.ndarray) -> np.ndarray:
    f1: np.ndarray = _ratio(2 * np.diag(table), table.sum(axis=0) + table.sum(axis=1))
    return f1


def _ratio(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(hits, of, out=np.zeros(len(hits)), where=of > 0)
    return shares
