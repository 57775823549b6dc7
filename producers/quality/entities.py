"""Predicted entities against gold entities, as seqeval counts them: same label, same span. Pure.

An entity counts only if its label, start and end are all right; half an entity is one that is
missed and one that is made up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from producers.quality.classification import LabelScores
from producers.quality.intervals import Interval, bootstrap
from schemas.entity_tags import Span


@dataclass(slots=True)
class EntityCounts:
    """Counts of rows and entities; those of several parts may be added row by row."""

    rows: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    """(right, predicted, gold) entities of a row → rows."""
    right: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    gold: Counter[str] = field(default_factory=Counter)
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(gold label, predicted label) of one span, where they differ."""

    def add(self, gold: Collection[Span], predicted: Collection[Span]) -> None:
        """Count a row."""
        true, found = set(gold), set(predicted)
        both = true & found
        self.rows[len(both), len(found), len(true)] += 1
        for counter, spans in ((self.right, both), (self.predicted, found), (self.gold, true)):
            counter.update(label for label, _, _ in spans)
        at = {(start, end): label for label, start, end in true - both}
        for label, start, end in found - both:
            if (start, end) in at:
                self.confused[at[start, end], label] += 1

    @property
    def by_label(self) -> tuple[LabelScores, ...]:
        """Each label that is gold or predicted somewhere, in order of name."""
        labels = sorted({*self.predicted, *self.gold})
        return tuple(
            _scores(label, self.right[label], self.predicted[label], self.gold[label])
            for label in labels
        )

    @property
    def micro(self) -> LabelScores:
        """All entities together."""
        counts = (sum(c.values()) for c in (self.right, self.predicted, self.gold))
        return _scores("", *counts)

    @property
    def micro_f1(self) -> Interval:
        """F1 of all entities together, with the bootstrap interval of resampled rows."""
        kinds = np.array(list(self.rows) or [(0, 0, 0)])
        counts = np.array(list(self.rows.values()) or [0], dtype=np.int64)

        def f1(table: np.ndarray) -> float:
            right, predicted, gold = table @ kinds
            return float(2 * right / max(1, predicted + gold))

        return bootstrap(counts, f1)

    def macro(self) -> tuple[float, float, float]:
        """Means of precision, recall and F1 over the labels."""
        return _mean(self.by_label, [1.0] * len(self.by_label))

    def weighted(self) -> tuple[float, float, float]:
        """The same, each label weighted by its gold entities."""
        return _mean(self.by_label, [float(scores.support) for scores in self.by_label])


def _scores(label: str, right: int, predicted: int, gold: int) -> LabelScores:
    precision, recall = right / max(1, predicted), right / max(1, gold)
    f1 = 2 * right / max(1, predicted + gold)
    return LabelScores(label, precision, recall, f1, gold)


def _mean(scores: Sequence[LabelScores], weights: Sequence[float]) -> tuple[float, float, float]:
    if not sum(weights):
        return 0.0, 0.0, 0.0
    rows = [(s.precision, s.recall, s.f1) for s in scores]
    precision, recall, f1 = np.average(rows, axis=0, weights=weights).tolist()
    return precision, recall, f1
