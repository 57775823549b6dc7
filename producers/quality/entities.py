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

Span = tuple[str, int, int]
"""Label, start and end; the end is past the last character, or the last token itself."""


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


def entities_of_tags(tags: Sequence[str]) -> list[Span]:
    """The entities of one row's tags (BIO, IOB1 or IOBES), with first and last token.

    An entity may begin with `I-`, as in conlleval; one ends where the label changes.

    Source: seqeval 1.2.2, get_entities in its default mode
    """
    found: list[Span] = []
    before, label, start = "O", "", 0
    for at, whole in enumerate([*tags, "O"]):
        tag, own = whole[:1] or "O", whole[1:].split("-", 1)[-1] or "_"
        if _ends(before, tag) or (before != "O" and label != own):
            found.append((label, start, at - 1))
        if _begins(before, tag) or (tag != "O" and label != own):
            start = at
        before, label = tag, own
    return found


def spans_of_tags(tokens: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """The entities of tagged tokens, in characters of the tokens joined by single spaces.

    Raises:
        ValueError: there are not as many tags as tokens.
    """
    if len(tokens) != len(tags):
        raise ValueError(f"{len(tokens)} tokens and {len(tags)} tags")
    starts = np.cumsum([0, *(len(token) + 1 for token in tokens)]).tolist()
    return [
        (label, starts[first], starts[last] + len(tokens[last]))
        for label, first, last in entities_of_tags(tags)
    ]


def _ends(before: str, tag: str) -> bool:
    return before in "ES" or (before in "BI" and tag in "BSO")


def _begins(before: str, tag: str) -> bool:
    return tag in "BS" or (before in "ESO" and tag in "EI")


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
