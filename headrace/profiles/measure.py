"""Counts rows of a part into a profile, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.profiles.bins import add_counts, counted, score_bins, value_bins
from headrace.profiles.profile import (
    MOST_LABELS,
    SUM_SCALE,
    Profile,
    TextCounts,
    TokenCounts,
    VectorCounts,
    add_texts,
    token_counts,
)
from headrace.profiles.scripts import main_scripts
from headrace.tasks.spec import TaskSpec
from schemas.records.part_schema import OK

DIRECTIONS = 64
VECTOR_SCALE = 1 << 16
"""Embeddings are rounded to whole numbers of this part of 1: their products and sums are then exact
in float64, in whatever order a processor adds them."""
VECTOR_MOST = 1 << 14
"""Chosen: a number of an embedding beyond it counts as this; 2**14 * 2**16 * 4,096 is below 2**53."""


class ProfileBuilder:
    """Builds a profile; for one thread at a time."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec
        self.profile = Profile()
        self._tokens = TokenCounts()
        self._counts = np.zeros((2, 0), dtype=np.int64)
        self._token_rows: int | None = None

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Count rows of a part: labels, scores, vectors, lengths, errors."""
        it, names = self.profile, set(rows.schema.names)
        ok = pc.equal(rows.column("status").cast(pa.string()), OK)
        it.rows += len(rows)
        good = rows if pc.all(ok, min_count=0).as_py() else rows.filter(ok)
        it.ok += len(good)
        if len(good) < len(rows):
            bad = rows.filter(pc.invert(ok)).column("error_type")
            add_counts(it.errors, _by_value(bad))
        lengths = good.column("n_tokens").to_numpy(zero_copy_only=False)
        it.tokens += int(lengths.sum())
        it.truncated += int(pc.sum(good.column("truncated")).as_py() or 0)
        add_counts(it.lengths, counted(lengths.astype(np.int64)))
        self._add_predictions(good, names)
        if "embedding" in names and len(good):
            it.vectors = add_vectors(it.vectors, good.column("embedding"))

    def add_texts(
        self, texts: Sequence[bytes], row_bytes: np.ndarray, row_tokens: np.ndarray, empty: int
    ) -> None:
        """Count texts in UTF-8; `row_bytes` and `row_tokens` `[n]` are of rows with a prediction."""
        self.profile.texts = self.profile.texts or TextCounts()
        add_texts(self.profile.texts, text_counts(texts, row_bytes, row_tokens, empty))

    def add_tokens(
        self, ids: np.ndarray, lengths: np.ndarray, copies: np.ndarray, halves: np.ndarray
    ) -> None:
        """Count token ids int `[tokens]` of texts of these lengths `[n]`.

        `copies` `[n]` is how many rows have the text, `halves` `[n]` its half, 0 or 1.
        """
        self._token_rows = (self._token_rows or 0) + int(copies.sum())
        row = np.repeat(np.arange(len(lengths)), lengths)
        codes = ids.astype(np.int64) * 2 + halves[row]
        weights = None if (copies == 1).all() else copies[row].astype(np.float64)
        found = np.bincount(codes, weights=weights).astype(np.int64)
        found = np.pad(found, (0, len(found) % 2)).reshape(-1, 2).T
        more = found.shape[1] - self._counts.shape[1]
        if more > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, more)))
        self._counts[:, : found.shape[1]] += found

    def finish(self, tokens: TokenCounts | None = None) -> Profile:
        """The profile; `tokens` says which vocabulary the ids are of."""
        if self._token_rows is not None:
            like = tokens or TokenCounts()
            self.profile.token_counts = token_counts(like, self._token_rows, self._counts)
        return self.profile

    def _add_predictions(self, good: pa.RecordBatch, names: set[str]) -> None:
        it = self.profile
        label, score = self._spec.label_column, self._spec.score_column
        labels, scores = _column(good, label, names), _column(good, score, names)
        if labels is None:
            return
        if label is not None and "." in label:
            items = pc.list_value_length(good.column(label.split(".")[0])).drop_null()
            add_counts(it.items, counted(items.to_numpy(zero_copy_only=False).astype(np.int64)))
        by_label = _by_value(labels)
        if len(it.labels.keys() | by_label.keys()) > MOST_LABELS:
            raise ValueError(f"over {MOST_LABELS} labels")
        add_counts(it.labels, by_label)
        if scores is not None and len(labels):
            self._add_scores(labels, scores.to_numpy(zero_copy_only=False))

    def _add_scores(self, labels: pa.Array, scores: np.ndarray) -> None:
        it = self.profile
        add_counts(it.values, counted(value_bins(scores)))
        inside = (scores >= 0) & (scores <= 1)  # not so in a regression
        coded = labels if pa.types.is_dictionary(labels.type) else labels.dictionary_encode()
        codes = np.where(inside, coded.indices.to_numpy(zero_copy_only=False), -1)
        bins = score_bins(scores)
        sums = np.rint(scores.astype(np.float64) * SUM_SCALE).astype(np.int64)
        for code, name in enumerate(coded.dictionary.cast(pa.string()).to_pylist()):
            own = codes == code
            if own.any():
                add_counts(it.scores.setdefault(name, {}), counted(bins[own]))
                it.score_sums[name] = it.score_sums.get(name, 0) + int(sums[own].sum())


def text_counts(
    texts: Sequence[bytes], row_bytes: np.ndarray, row_tokens: np.ndarray, empty: int
) -> TextCounts:
    """Counts of texts in UTF-8; see `ProfileBuilder.add_texts`."""
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    shares = np.divide(row_bytes, row_tokens, out=np.zeros(len(row_bytes)), where=row_tokens > 0)
    return TextCounts(
        rows=len(texts),
        bytes=int(sizes.sum()),
        sizes=counted(value_bins(sizes)),
        scripts=main_scripts(texts),
        empty=empty,
        per_token=counted(value_bins(shares)),
    )


def add_vectors(into: VectorCounts | None, column: pa.Array) -> VectorCounts:
    """Embeddings list<float32> `[rows]`, none null, counted into the second."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    width = len(flat) // len(column)
    if into is None:
        into = VectorCounts(
            width=width, sums=[0] * width, projections=[{} for _ in range(DIRECTIONS)]
        )
    whole = np.clip(flat.reshape(-1, width).astype(np.float64), -VECTOR_MOST, VECTOR_MOST)
    np.rint(whole * VECTOR_SCALE, out=whole)
    into.rows += len(column)
    sums = whole.sum(axis=0).astype(np.int64).tolist()
    into.sums = [a + b for a, b in zip(into.sums, sums, strict=True)]
    along = whole @ directions(width)
    for counts, values in zip(into.projections, along.T, strict=True):
        add_counts(counts, counted(value_bins(values)))
    return into


def directions(width: int) -> np.ndarray:
    """64 random directions, float64 `[width, 64]` of 1 and -1: the same in every version.

    Source: Achlioptas, Database-friendly random projections, 2003
    """
    bits = hashlib.shake_256(f"headrace projections {width}".encode()).digest(
        (width * DIRECTIONS + 7) // 8
    )
    signs = np.unpackbits(np.frombuffer(bits, np.uint8))[: width * DIRECTIONS]
    return signs.reshape(width, DIRECTIONS).astype(np.float64) * 2 - 1


def _column(rows: pa.RecordBatch, name: str | None, names: set[str]) -> pa.Array | None:
    """A column, the items of a list, or a field of the structs in one: `entities.label`."""
    top, _, inner = (name or "").partition(".")
    if top not in names:
        return None
    column = rows.column(top)
    items = column.flatten() if pa.types.is_list(column.type) else column
    return pc.struct_field(items, inner) if inner else items


def _by_value(column: pa.Array) -> dict[str, int]:
    """Rows by value, as text; nulls are left out."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    indices = coded.indices.drop_null().to_numpy(zero_copy_only=False)
    names = coded.dictionary.cast(pa.string()).to_pylist()
    counts = np.bincount(indices, minlength=len(names)).tolist()
    found: dict[str, int] = {}
    for name, count in zip(names, counts, strict=True):
        if count:
            found[name] = found.get(name, 0) + count
    return found
