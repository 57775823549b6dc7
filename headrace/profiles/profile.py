"""A profile: statistics of some rows, in integers that can be added exactly.

Profiles of the chunks of a job, added in any order, are the profile of the whole. None of it is
text of the corpus: tokens are numbers, and their words stand in the tokenizer's vocabulary.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.profiles.bins import add_counts
from schemas.errors import StorageError

VERSION = 1
MOST_LABELS = 2_000
"""Chosen: with more labels a task is no classification, and its profile would be large."""
SUM_SCALE = 1 << 30
"""Scores are summed as whole numbers of this part of 1, so that their order does not matter."""
LEVEL = 1
"""Level of gzip: with it, a profile of 20,000 different tokens takes 5 ms (measured)."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextCounts(_Record):
    """Statistics of all texts that could be read, also of rows with an error."""

    rows: int = 0
    bytes: int = 0
    """In UTF-8."""
    sizes: dict[int, int] = Field(default_factory=dict)
    """Bin of a text's bytes → rows."""
    scripts: dict[str, int] = Field(default_factory=dict)
    """The script of most of a text's letters → rows."""
    empty: int = 0
    """Texts that are empty or only white space."""
    per_token: dict[int, int] = Field(default_factory=dict)
    """Bin of a row's bytes per token → rows with a prediction."""


class TokenCounts(_Record):
    """How often each token occurs, in two halves of the rows, drawn by text hash.

    What differs between the halves is chance, however often a text repeats its words. So the
    halves say how far apart two nights are that came from one corpus.
    """

    vocabulary: str = ""
    """Digest of the tokenizer's tokens; counts of another vocabulary are not comparable."""
    unknown: int | None = None
    """The token for unknown words."""
    special: tuple[int, ...] = ()
    """Tokens that represent no text, such as `[CLS]`."""
    rows: int = 0
    """Rows that were tokenized: not those whose prediction was copied."""
    ids: list[int] = Field(default_factory=list)
    """Tokens that occur, in order."""
    first: list[int] = Field(default_factory=list)
    second: list[int] = Field(default_factory=list)


class VectorCounts(_Record):
    """Statistics of embeddings: their sum, and their distribution along 64 random directions."""

    width: int
    rows: int = 0
    sums: list[int] = Field(default_factory=list)
    """By dimension, in units of 2**-16."""
    projections: list[dict[int, int]] = Field(default_factory=list)
    """By direction: bin of the projection → rows."""


class Profile(_Record):
    """Some rows of an output; see the module."""

    version: int = VERSION
    rows: int = 0
    ok: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    truncated: int = 0
    tokens: int = 0
    lengths: dict[int, int] = Field(default_factory=dict)
    """Tokens of a row → rows."""
    items: dict[int, int] = Field(default_factory=dict)
    """Entities of a row → rows; empty where a row has one label."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Predicted labels of rows, or of entities."""
    scores: dict[str, dict[int, int]] = Field(default_factory=dict)
    """Label → bin of its score → rows."""
    score_sums: dict[str, int] = Field(default_factory=dict)
    """Label → sum of its scores, in units of 2**-30."""
    values: dict[int, int] = Field(default_factory=dict)
    """Bin of the score as a quantity, for a regression → rows."""
    judged: dict[int, int] = Field(default_factory=dict)
    """Bin of the score → rows that have a gold label."""
    right: dict[int, int] = Field(default_factory=dict)
    """Bin of the score → rows whose label is the gold label."""
    texts: TextCounts | None = None
    token_counts: TokenCounts | None = None
    vectors: VectorCounts | None = None

    def to_bytes(self) -> bytes:
        """JSON, compressed by gzip; equal profiles give equal bytes."""
        return gzip.compress(self.model_dump_json().encode(), LEVEL, mtime=0)


def parse_profile(data: bytes, where: str) -> Profile:
    """A stored profile.

    Raises:
        StorageError: the bytes are none of this version.
    """
    try:
        found = Profile.model_validate_json(gzip.decompress(data))
    except (OSError, EOFError, ValueError, ValidationError) as error:
        raise StorageError(f"{where} is no profile: {type(error).__name__}") from error
    if found.version != VERSION:
        raise StorageError(f"{where} is a profile of version {found.version}, not {VERSION}")
    return found


def merge(profiles: Iterable[Profile]) -> Profile:
    """The profile of all the rows."""
    whole, tokens, vectors = Profile(), _Tokens(), _Vectors()
    for one in profiles:
        for name in ("rows", "ok", "truncated", "tokens"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in (
            "errors",
            "lengths",
            "items",
            "labels",
            "score_sums",
            "values",
            "judged",
            "right",
        ):
            add_counts(getattr(whole, name), getattr(one, name))
        for label, bins in one.scores.items():
            add_counts(whole.scores.setdefault(label, {}), bins)
        if one.texts is not None:
            whole.texts = whole.texts or TextCounts()
            add_texts(whole.texts, one.texts)
        tokens.add(one.token_counts)
        vectors.add(one.vectors)
    whole.token_counts, whole.vectors = tokens.whole(), vectors.whole()
    return _in_order(whole)


def add_texts(into: TextCounts, more: TextCounts) -> None:
    """Add the counts of the second to the first."""
    for name in ("rows", "bytes", "empty"):
        setattr(into, name, getattr(into, name) + getattr(more, name))
    for name in ("sizes", "scripts", "per_token"):
        add_counts(getattr(into, name), getattr(more, name))


def _in_order(whole: Profile) -> Profile:
    """The same with sorted keys, so that the order of merging leaves no trace."""
    whole.scores = {label: dict(sorted(b.items())) for label, b in sorted(whole.scores.items())}
    for name in ("errors", "lengths", "items", "labels", "score_sums", "values", "judged", "right"):
        setattr(whole, name, dict(sorted(getattr(whole, name).items())))
    if whole.texts is not None:
        for name in ("sizes", "scripts", "per_token"):
            setattr(whole.texts, name, dict(sorted(getattr(whole.texts, name).items())))
    return whole


class _Tokens:
    """Token counts being added up; counts of a second vocabulary are left out."""

    def __init__(self) -> None:
        self._like: TokenCounts | None = None
        self._rows = 0
        self._counts = np.zeros((2, 0), dtype=np.int64)

    def add(self, more: TokenCounts | None) -> None:
        if more is None or (self._like and self._like.vocabulary != more.vocabulary):
            return
        self._like = self._like or more
        self._rows += more.rows
        if not more.ids:
            return
        size = more.ids[-1] + 1
        if size > self._counts.shape[1]:
            self._counts = np.pad(self._counts, ((0, 0), (0, size - self._counts.shape[1])))
        # a profile has each token once, so no place is added to twice
        self._counts[0, more.ids] += np.array(more.first, dtype=np.int64)
        self._counts[1, more.ids] += np.array(more.second, dtype=np.int64)

    def whole(self) -> TokenCounts | None:
        if self._like is None:
            return None
        return token_counts(self._like, self._rows, self._counts)


def token_counts(like: TokenCounts, rows: int, counts: np.ndarray) -> TokenCounts:
    """The record of counts int64 `[2, tokens]`, with the vocabulary of `like`."""
    at = np.flatnonzero(counts.any(axis=0))
    return like.model_copy(
        update={
            "rows": rows, "ids": at.tolist(), "first": counts[0, at].tolist(),
            "second": counts[1, at].tolist(),
        }
    )  # fmt: skip


class _Vectors:
    """Embeddings being added up; those of another width are left out."""

    def __init__(self) -> None:
        self._whole: VectorCounts | None = None

    def add(self, more: VectorCounts | None) -> None:
        if more is None:
            return
        if self._whole is None:
            self._whole = more.model_copy(deep=True)
        elif self._whole.width == more.width:
            self._whole.rows += more.rows
            self._whole.sums = [a + b for a, b in zip(self._whole.sums, more.sums, strict=True)]
            for mine, its in zip(self._whole.projections, more.projections, strict=True):
                add_counts(mine, its)

    def whole(self) -> VectorCounts | None:
        if self._whole is not None:
            self._whole.projections = [dict(sorted(p.items())) for p in self._whole.projections]
        return self._whole
