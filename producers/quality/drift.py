"""Compares two profiles: a distance for each feature, and whether it has drifted. Pure.

A feature has drifted if its distance is beyond chance and above a limit. The limit is a floor
that a person may set, or the usual distance between the job's own last nights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.profiles.profile import Profile, TokenCounts
from producers.quality.distance import (
    Distance,
    contributions,
    distance,
    distance_of,
    halved_distance,
    joined_bins,
)
from producers.quality.expected_accuracy import expected_accuracy
from producers.quality.features import (
    SHARES,
    TABLES,
    TOKENIZED,
    Table,
    of_other_vocabularies,
    tokens_comparable,
)

FLOOR = 0.1
"""Chosen: the distance between labels of 50:50 and 36:64, or of 90:10 and 80:20."""
FLOORS = {"tokens": 0.05}
"""Chosen: most words of a language are the same whatever the texts are about. Every fifth comment
replaced by one about physics is a distance of 0.09 (measured)."""
NIGHTS = 3
"""Chosen: with fewer nights, the usual distance is unknown."""
USUAL = 1.25
"""Chosen: a quarter above the usual distance is unusual."""
WORDS = 15
"""Chosen: number of tokens that are named."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A cell of a feature, and its share of the rows (or of the tokens) before and after."""

    name: str
    before: float
    after: float
    part: float
    """Share of the feature's divergence that the cell makes."""
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of two profiles."""

    name: str
    distance: Distance
    limit: float
    """The floor, or the usual distance between nights, whichever is larger."""
    before: float | None = None
    """A share, or the median, of the reference; None: no single number says it."""
    after: float | None = None
    moved: tuple[Moved, ...] = ()
    """The cells that contribute to the distance, the largest contribution first."""

    @property
    def is_drift(self) -> bool:
        return self.distance.is_beyond_chance and self.distance.value > self.limit


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison of a reference with a night."""

    reference: Profile
    now: Profile
    features: tuple[Feature, ...]
    nights: int
    """Number of earlier nights from which the limits were taken."""
    notes: tuple[str, ...] = ()
    """What could not be compared, and why."""
    expected: tuple[float, float] | None = field(default=None)
    """Accuracy expected of the reference and of the night, from the scores."""
    is_calibrated: bool = False
    """The scores were corrected by gold labels of the reference."""

    @property
    def drifted(self) -> tuple[Feature, ...]:
        """The features that drifted, the largest distance first."""
        found = [feature for feature in self.features if feature.is_drift]
        return tuple(sorted(found, key=lambda f: -f.distance.value))


def drift(
    reference: Profile,
    now: Profile,
    nights: Sequence[Profile] = (),
    floors: Mapping[str, float] | None = None,
    floor: float = FLOOR,
) -> Drift:
    """Compare a night with a reference; `nights` are the last ones, of any order.

    `floors` has limits of single features, by name.
    """
    found, notes = [], []
    floors = FLOORS if floors is None else floors
    usual = [_distances(reference, night) for night in nights]
    for name, (apart, before, after, moved) in _measured(reference, now).items():
        limit = _limit([n[name].value for n in usual if name in n], floors.get(name, floor))
        found.append(Feature(name, apart, limit, before, after, moved))
    if not tokens_comparable(reference, now):
        left_out = "tokens"
        if of_other_vocabularies(reference, now):
            left_out = f"{', '.join(sorted(TOKENIZED))} and tokens"
        notes.append(f"not both have counts of one vocabulary: {left_out} are not compared")
    return Drift(
        reference, now, tuple(found), len(nights), tuple(notes),
        _expected(reference, now), bool(reference.judged),
    )  # fmt: skip


def _limit(usual: Sequence[float], floor: float) -> float:
    """The second largest distance of the last nights, plus a quarter: one unusual night is ignored."""
    if len(usual) < NIGHTS:
        return floor
    return max(floor, USUAL * sorted(usual)[-2])


_Measured = tuple[Distance, float | None, float | None, tuple[Moved, ...]]


def _measured(reference: Profile, now: Profile) -> dict[str, _Measured]:
    found: dict[str, _Measured] = {}
    other = TOKENIZED if of_other_vocabularies(reference, now) else frozenset()
    for table in TABLES:
        if table.name in other:
            continue
        before, after = table.counts(reference), table.counts(now)
        if before and after:
            found[table.name] = _of_table(table, before, after)
    for share in SHARES:
        if share.name in other:
            continue
        shares = share.cells(reference), share.cells(now)
        if all(sum(cells) for cells in shares):
            found[share.name] = _of_share(*shares)
    if tokens_comparable(reference, now):
        assert reference.token_counts is not None
        assert now.token_counts is not None
        tables = _dense(reference.token_counts, now.token_counts)
        found["tokens"] = _of_tokens(*tables)
        rows = reference.token_counts.rows, now.token_counts.rows
        found["new tokens"] = _of_new_tokens(*tables, rows)
    if reference.vectors and now.vectors and reference.vectors.width == now.vectors.width:
        pairs = zip(reference.vectors.projections, now.vectors.projections, strict=True)
        found["vectors"] = _mean([distance(*joined_bins(a, b)) for a, b in pairs]), None, None, ()
    return found


def _distances(reference: Profile, night: Profile) -> dict[str, Distance]:
    return {name: it[0] for name, it in _measured(reference, night).items()}


def _of_table(table: Table, before: Mapping[Any, int], after: Mapping[Any, int]) -> _Measured:
    if table.value is None:
        named = {str(k): n for k, n in before.items()}, {str(k): n for k, n in after.items()}
        return distance_of(*named), None, None, _moved(*named)
    medians = [table.value(_median(bins)) for bins in (before, after)]
    return distance(*joined_bins(before, after)), medians[0], medians[1], ()


def _of_share(before: tuple[int, int], after: tuple[int, int]) -> _Measured:
    shares = [cells[0] / sum(cells) for cells in (before, after)]
    return distance(np.array(before), np.array(after)), shares[0], shares[1], ()


def _of_tokens(before: np.ndarray, after: np.ndarray) -> _Measured:
    """Counts int64 `[2, tokens]`: how often each occurs."""
    apart = halved_distance(before, after)
    shares = [t.sum(axis=0) / max(1, t.sum()) for t in (before, after)]
    parts = contributions(*shares)
    return apart, None, None, _named(shares, parts)


def _of_new_tokens(before: np.ndarray, after: np.ndarray, rows: tuple[int, int]) -> _Measured:
    """The share of tokens that the reference never had; fewer than usual is not drift.

    A text brings its tokens together, so it counts once.
    """
    known = before.sum(axis=0) > 0
    counts = after.sum(axis=0)
    usual = usual_new_share(before)
    new = float(counts[~known].sum() / max(1, counts.sum()))
    cells = [
        np.rint(np.array([share, 1 - share]) * n).astype(np.int64)
        for share, n in ((usual, rows[0]), (max(usual, new), rows[1]))
    ]
    only_new = np.where(known, 0, counts) / max(1, counts.sum())
    return distance(*cells), usual, new, _named([np.zeros(len(only_new)), only_new], only_new)


def usual_new_share(counts: np.ndarray) -> float:
    """The share of tokens that another night of the same corpus has and this one, `[2, tokens]`, not.

    The share of tokens that occur once says so where each is drawn by itself. How far it is off in
    texts, which repeat their words, is seen in the halves: one of them against the other.

    Source: Good, The population frequencies of species, 1953
    """
    first, second = counts
    whole = counts.sum(axis=0)
    once_in_first = float((first == 1).sum() / max(1, first.sum()))
    seen_anew = float(second[first == 0].sum() / max(1, second.sum()))
    off = seen_anew / once_in_first if once_in_first else 1.0
    return min(1.0, off * float((whole == 1).sum() / max(1, whole.sum())))


def _named(shares: Sequence[np.ndarray], parts: np.ndarray) -> tuple[Moved, ...]:
    """The tokens with the largest parts."""
    order = np.argsort(-parts, kind="stable")[:WORDS]
    whole = max(float(parts.sum()), 1e-300)
    return tuple(
        Moved(f"token {t}", float(shares[0][t]), float(shares[1][t]), float(parts[t] / whole), t)
        for t in order.tolist()
        if parts[t] > 0
    )


def _dense(before: TokenCounts, after: TokenCounts) -> tuple[np.ndarray, np.ndarray]:
    """Counts int64 `[2, tokens]` of both, without the tokens that stand for no text."""
    size = max((c.ids[-1] for c in (before, after) if c.ids), default=0) + 1
    tables = []
    for counts in (before, after):
        table = np.zeros((2, size), dtype=np.int64)
        table[0, counts.ids], table[1, counts.ids] = counts.first, counts.second
        table[:, [t for t in counts.special if t < size]] = 0
        tables.append(table)
    return tables[0], tables[1]


def _moved(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Moved, ...]:
    cells = sorted({*before, *after})
    shares = [np.array([t.get(c, 0) for c in cells]) / sum(t.values()) for t in (before, after)]
    parts = contributions(*shares)
    whole = float(parts.sum())
    found = [
        Moved(cell, float(a), float(b), float(part / whole) if whole else 0.0)
        for cell, a, b, part in zip(cells, *shares, parts, strict=True)
    ]
    return tuple(sorted(found, key=lambda m: -m.part)[:WORDS])


def _median(counts: Mapping[int, int]) -> int:
    half, passed = sum(counts.values()) / 2, 0
    for value, rows in sorted(counts.items()):
        passed += rows
        if passed >= half:
            return value
    return 0


def _mean(found: Sequence[Distance]) -> Distance:
    """The mean of the distances and of their spreads, since the directions are not independent."""
    rows = [(d.divergence, d.bias, d.spread, d.psi) for d in found]
    return Distance(*(float(x) for x in np.mean(rows, axis=0)))


def _expected(reference: Profile, now: Profile) -> tuple[float, float] | None:
    found = [expected_accuracy(profile, reference) for profile in (reference, now)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])
