"""The features of a profile that are compared between nights: tables of counts, and shares. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.profiles.bins import LOGIT_MOST, LOGIT_STEP, value_of_bin
from headrace.profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class Table:
    """A feature with many cells."""

    name: str
    text: str
    counts: Callable[[Profile], Mapping[Any, int]]
    value: Callable[[int], float] | None = None
    """What a bin means; None: cells have names and no order."""


@dataclass(frozen=True, slots=True)
class Share:
    """A feature with two cells."""

    name: str
    text: str
    cells: Callable[[Profile], tuple[int, int]]
    """Rows (or tokens) that have it, and rows that do not."""


def _scores(profile: Profile) -> dict[int, int]:
    """Rows by bin of the score; empty where the scores are quantities."""
    total: dict[int, int] = {}
    for bins in profile.scores.values():
        for at, rows in bins.items():
            total[at] = total.get(at, 0) + rows
    return total if sum(total.values()) == sum(profile.values.values()) else {}


def _values(profile: Profile) -> dict[int, int]:
    """Rows by bin of the predicted quantity; empty where it is a score."""
    return {} if _scores(profile) else dict(profile.values)


def _score(at: int) -> float:
    return 1 / (1 + math.exp(-LOGIT_STEP * (at - 0.5 - LOGIT_MOST / LOGIT_STEP)))


def _unknown(profile: Profile) -> tuple[int, int]:
    counts = profile.token_counts
    if counts is None or counts.unknown is None:
        return 0, 0
    by_token = dict(zip(counts.ids, zip(counts.first, counts.second, strict=True), strict=True))
    total = sum(counts.first) + sum(counts.second)
    found = sum(by_token.get(counts.unknown, (0, 0)))
    return found, total - found


def _empty(profile: Profile) -> tuple[int, int]:
    texts = profile.texts
    return (0, 0) if texts is None else (texts.empty, texts.rows - texts.empty)


TABLES = (
    Table("labels", "predicted labels", lambda p: p.labels),
    Table("scores", "score of the predicted label", _scores, _score),
    Table("values", "predicted quantity", _values, value_of_bin),
    Table("entities", "entities in a row", lambda p: p.items, float),
    Table("lengths", "tokens in a row", lambda p: p.lengths, float),
    Table("sizes", "bytes of a text", lambda p: p.texts.sizes if p.texts else {}, value_of_bin),
    Table("bytes per token", "bytes of text for a token",
          lambda p: p.texts.per_token if p.texts else {}, value_of_bin),
    Table("scripts", "script of most letters", lambda p: p.texts.scripts if p.texts else {}),
)  # fmt: skip

SHARES = (
    Share("errors", "rows without a prediction", lambda p: (p.rows - p.ok, p.ok)),
    Share("truncated", "texts that were cut", lambda p: (p.truncated, p.ok - p.truncated)),
    Share("empty", "texts of nothing or white space", _empty),
    Share("unknown", "tokens that the tokenizer does not know", _unknown),
)

TOKENIZED = frozenset({"lengths", "bytes per token", "unknown"})
"""Features that depend on the tokenizer, beside the tokens themselves."""

FEATURES: dict[str, str] = {
    **{t.name: t.text for t in TABLES},
    **{s.name: s.text for s in SHARES},
    "tokens": "how often each token occurs",
    "new tokens": "tokens that the reference never had",
    "vectors": "embeddings, along 64 random directions",
}
"""Every feature with what it is."""


def tokens_comparable(reference: Profile, now: Profile) -> bool:
    """Whether both have counts of tokens of one known vocabulary."""
    one, two = reference.token_counts, now.token_counts
    return one is not None and two is not None and "" != one.vocabulary == two.vocabulary


def of_other_vocabularies(reference: Profile, now: Profile) -> bool:
    """Whether two tokenizers made them, so that nothing about tokens can be compared."""
    known = [p.token_counts.vocabulary for p in (reference, now) if p.token_counts is not None]
    return len(known) == 2 and "" not in known and known[0] != known[1]
