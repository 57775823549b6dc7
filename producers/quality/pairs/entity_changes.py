"""Entities that two models find in the same texts, from counts alone. Pure.

An entity is the same if label, start and end are. Of the others, one of A and one of B belong
together if they have the same span, else if their spans overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from producers.quality.intervals import Interval, bootstrap, wilson
from producers.quality.paired import Gate, refused_slices, too_low
from schemas.entity_tags import Span


class Change(NamedTuple):
    """What became of an entity; an empty label: no entity there."""

    before: str
    after: str
    is_moved: bool = False
    """The span is another one, which overlaps."""


class Hits(NamedTuple):
    """Right entities of A and B, all that each found, and gold ones; of a text or of a label."""

    right_a: int
    found_a: int
    right_b: int
    found_b: int
    gold: int


class TextKind(NamedTuple):
    """All that is counted of a text: most texts are like many others."""

    kept: int
    found: int
    """Entities of A and of B, together."""
    changes: tuple[tuple[Change, int], ...]
    gold: tuple[tuple[str, Hits], ...] | None
    """By label; None: no gold entities are known for the text."""


Score = Callable[[np.ndarray], float]
"""Of the sums of all hits, int `[5]`, in the order of `Hits`."""
Kinds = Mapping[TextKind, int]
"""Kind → texts."""


def kind_of(a: Collection[Span], b: Collection[Span], gold: Collection[Span] | None) -> TextKind:
    """What is counted of one text."""
    first, second = set(a), set(b)
    changes = Counter(change for change, _, _ in changes_of(first, second))
    return TextKind(
        len(first & second), len(first) + len(second), tuple(sorted(changes.items())),
        None if gold is None else tuple(_hits(first, second, set(gold))),
    )  # fmt: skip


def changes_of(
    a: Collection[Span], b: Collection[Span]
) -> Iterator[tuple[Change, Span | None, Span | None]]:
    """Every change, with the entity of A and that of B."""
    left, right = (sorted(set(x) - set(y), key=_place) for x, y in ((a, b), (b, a)))
    for is_moved in (False, True):
        for one in list(left):
            two = next((s for s in right if _meet(one, s, is_moved)), None)
            if two is not None:
                left.remove(one)
                right.remove(two)
                yield Change(one[0], two[0], is_moved), one, two
    yield from ((Change(one[0], ""), one, None) for one in left)
    yield from ((Change("", two[0]), None, two) for two in right)


def _place(span: Span) -> tuple[int, int, str]:
    return span[1], span[2], span[0]


def _meet(one: Span, two: Span, is_moved: bool) -> bool:
    if is_moved:
        return one[1] < two[2] and two[1] < one[2]
    return one[1:] == two[1:]


def _hits(a: set[Span], b: set[Span], gold: set[Span]) -> Iterator[tuple[str, Hits]]:
    for label in sorted({span[0] for span in a | b | gold}):
        own_a, own_b, true = ({s for s in side if s[0] == label} for side in (a, b, gold))
        yield label, Hits(len(own_a & true), len(own_a), len(own_b & true), len(own_b), len(true))


@dataclass(frozen=True, slots=True)
class EntityAgreement:
    """How often two models find the same entities."""

    kinds: Kinds

    @property
    def rows(self) -> int:
        """Texts."""
        return sum(self.kinds.values())

    @property
    def changed(self) -> int:
        """Texts whose entities are not the same."""
        return sum(n for kind, n in self.kinds.items() if kind.changes)

    @property
    def flips(self) -> Interval:
        """The share of such texts, with Wilson's interval."""
        return wilson(self.changed, self.rows)

    @property
    def f1(self) -> float:
        """F1 of the entities of one with those of the other as right; 1 where both find none."""
        kept = sum(kind.kept * n for kind, n in self.kinds.items())
        found = sum(kind.found * n for kind, n in self.kinds.items())
        return 2 * kept / found if found else 1.0

    @property
    def flows(self) -> tuple[tuple[Change, int], ...]:
        """Every change, with its number of entities, the most frequent first."""
        found: Counter[Change] = Counter()
        for kind, n in self.kinds.items():
            for change, times in kind.changes:
                found[change] += times * n
        return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class PairedEntities:
    """Which of two models finds the gold entities, text by text."""

    kinds: Mapping[tuple[tuple[str, Hits], ...], int]
    """Hits by label → texts that have gold entities, or are known to have none."""

    @classmethod
    def of(cls, kinds: Kinds) -> PairedEntities:
        found: Counter[tuple[tuple[str, Hits], ...]] = Counter()
        for kind, n in kinds.items():
            if kind.gold is not None:
                found[kind.gold] += n
        return cls(found)

    @property
    def rows(self) -> int:
        """Texts."""
        return sum(self.kinds.values())

    @property
    def by_label(self) -> dict[str, Hits]:
        """Hits of all texts together, in order of label."""
        found: dict[str, list[int]] = {}
        for hits, n in self.kinds.items():
            for label, numbers in hits:
                sums = found.setdefault(label, [0] * len(numbers))
                sums[:] = [s + n * x for s, x in zip(sums, numbers, strict=True)]
        return {label: Hits(*found[label]) for label in sorted(found)}

    @property
    def f1s(self) -> tuple[Interval, Interval]:
        """Of A and of B, all labels together, each with its bootstrap interval."""
        return self._interval(lambda sums: _f1s(sums)[0]), self._interval(lambda s: _f1s(s)[1])

    @property
    def delta(self) -> Interval:
        """F1 of B less that of A, with the bootstrap interval of resampled texts."""
        return self._interval(lambda sums: _f1s(sums)[1] - _f1s(sums)[0])

    def _interval(self, score: Score) -> Interval:
        kinds = [
            [sum(c) for c in zip(*(h for _, h in hits), strict=True)] or [0] * 5
            for hits in self.kinds
        ]
        table = np.array(kinds or [[0] * 5], dtype=np.int64)
        counts = np.array(list(self.kinds.values()) or [0], dtype=np.int64)
        return bootstrap(counts, lambda drawn: score(drawn @ table))


def f1s_of(hits: Hits) -> tuple[float, float]:
    """F1 of A and of B; 0 where there is neither a gold entity nor a predicted one."""
    return _f1s(np.array(hits))


def _f1s(sums: np.ndarray) -> tuple[float, float]:
    right_a, found_a, right_b, found_b, gold = sums.tolist()
    return 2 * right_a / max(1, found_a + gold), 2 * right_b / max(1, found_b + gold)


def refusals_of_entities(
    gate: Gate, agreement: EntityAgreement, paired: PairedEntities | None,
    slices: Mapping[str, Mapping[str, PairedEntities]],
) -> list[str]:  # fmt: skip
    """Why the gate refuses B; empty: it passes. An interval's worse end decides."""
    found: list[str] = []
    if gate.max_flips is not None and not agreement.flips.high <= gate.max_flips:
        found.append(
            f"entities changed: in up to {agreement.flips.high:.2%} of texts, allowed {gate.max_flips:.2%}"
        )
    if gate.min_f1_delta is not None:
        found += _of_f1("F1", paired, gate.min_f1_delta)
    return [*found, *refused_slices(gate, slices, _of_f1)]


def _of_f1(what: str, paired: PairedEntities | None, least: float) -> list[str]:
    has_gold = paired is not None and any(hits.gold for hits in paired.by_label.values())
    delta = paired.delta if paired is not None and has_gold else None
    return too_low(what, delta, least, missing="no text has a gold entity", form="+.4f")
