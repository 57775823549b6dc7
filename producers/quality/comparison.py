"""Two outputs of the same rows, read side by side once, in memory bounded by their rows' codes.

A row that counts takes 16 bytes: eight of its text's hash and two codes. Ten million rows take
some 400 MB at the end, when equal texts are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.output.challenger_record import Challenger, read_challenger
from headrace.storage.store import Store
from producers.quality.cost import Cost
from producers.quality.gold import MOST_VALUES, Gold, classification_job, texts_of
from producers.quality.paired import Agreement, Paired, table_of
from schemas.errors import ColumnError, ConfigError, InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.part_schema import OK
from schemas.records.text_hash import share_limit

CONFIDENT = 20
"""Chosen: flips that both models were surest of, shown by id."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A row whose label changed."""

    id: str
    before: str
    after: str
    score_a: float
    score_b: float
    text: int
    """The first eight bytes of its text's hash: a draw that depends on nothing else."""


@dataclass(slots=True)
class Compared:
    """Two outputs of the same rows."""

    a: Job
    b: Job
    rows: int = 0
    costs: tuple[Cost | None, Cost | None] = (None, None)
    only_a_ok: int = 0
    only_b_ok: int = 0
    agreement: Agreement = field(default_factory=lambda: Agreement((), np.zeros((0, 0), np.int64)))
    paired: Paired | None = None
    """None: no gold column was named."""
    slices: dict[str, dict[str, Paired]] = field(default_factory=dict)
    confident_flips: list[Flip] = field(default_factory=list)
    """The texts whose label changed that both models were surest of."""
    drawn: list[Flip] = field(default_factory=list)
    """Texts whose label changed, drawn for a person to label.

    A uniform draw without replacement, the same each time: those with the smallest text hashes.
    Rows on which both models agree say nothing about which of them is better.
    """

    @property
    def chance(self) -> float:
        """Of a text whose label changed, to be among the drawn."""
        changed = self.agreement.rows - int(np.trace(self.agreement.table))
        return len(self.drawn) / changed if changed else 0.0


def compare(
    a: Store, b: Store, *, gold: Gold | None = None, slices: Sequence[str] = (), ask: int = 0
) -> Compared:
    """Every row of both outputs, once; `slices`, and `gold` unless it is by id, are columns of A.

    `ask` texts whose label changed are drawn.

    Raises:
        JobNotFound: an output holds no job.
        ConfigError: a job of another task, or the outputs are not of the same rows.
        ColumnError: a column that A does not have, or a slice with too many values.
        InputUnreadable: a part cannot be read.
    """
    found = Compared(classification_job(a), classification_job(b))
    if slices and gold is None:
        raise ConfigError("--slices compares accuracies: it needs --label-column or --labels")
    rows = _Rows(found, gold, slices, ask)
    wanted = [*([gold.column] if gold and gold.by_id is None else []), *slices]
    sample = read_challenger(b)
    rows_of_a = _parts(a, found.a, wanted)
    if sample is not None:
        _check_sample(sample, found.a, a)
        rows_of_a = (_drawn(table, sample.share) for table in rows_of_a)
    for one, two in _side_by_side(rows_of_a, _parts(b, found.b, ())):
        rows.add(one, two)
    rows.finish()
    return found


class _Rows:
    """What is kept of each row until equal texts are known."""

    def __init__(self, found: Compared, gold: Gold | None, slices: Sequence[str], ask: int) -> None:
        self._found, self._gold, self._slices, self._ask = found, gold, slices, ask
        self._labels: dict[str, int] = {}
        self._values: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._texts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._kept_values: dict[str, list[np.ndarray]] = {name: [] for name in slices}

    def add(self, a: pa.Table, b: pa.Table) -> None:
        """Rows of A and the same rows of B."""
        found = self._found
        ok_a, ok_b = _is_ok(a), _is_ok(b)
        found.rows += a.num_rows
        found.only_a_ok += int((ok_a & ~ok_b).sum())
        found.only_b_ok += int((ok_b & ~ok_a).sum())
        both = ok_a & ok_b
        codes = np.stack(
            [
                self._coded(a["predicted_label"]),
                self._coded(b["predicted_label"]),
                np.full(a.num_rows, -1) if self._gold is None else self._gold_codes(a),
            ]
        ).astype(np.int32)[:, both]
        texts = _hashes(a["text_hash"])[both]
        self._codes.append(codes)
        self._texts.append(texts)
        for name in self._slices:
            self._kept_values[name].append(self._value_codes(name, a[name])[both])
        self._keep_flips(a, b, np.flatnonzero(both), codes, texts)

    def finish(self) -> None:
        """Count every text once."""
        if not self._codes:
            return
        texts = np.concatenate(self._texts)
        _, first = np.unique(texts, return_index=True)
        codes = np.concatenate(self._codes, axis=1)[:, first]
        labels = tuple(self._labels)
        self._found.agreement = Agreement(
            labels, table_of(labels, codes[0].astype(np.int64) * len(labels) + codes[1])
        )
        if self._gold is None:
            return
        known = codes[2] >= 0
        self._found.paired = _paired(codes[:, known])
        for name in self._slices:
            values = np.concatenate(self._kept_values[name])[first][known]
            self._found.slices[name] = {
                value: _paired(codes[:, known][:, values == code])
                for value, code in self._values[name].items()
            }

    def _keep_flips(
        self, a: pa.Table, b: pa.Table, rows: np.ndarray, codes: np.ndarray, texts: np.ndarray
    ) -> None:
        """The surest flips so far, and the drawn ones."""
        at = np.flatnonzero(codes[0] != codes[1])
        if not len(at):
            return
        places = pa.array(rows[at])
        scores = [t["score"].take(places).to_numpy() for t in (a, b)]
        surest = np.argsort(-np.minimum(*scores), kind="stable")[: 4 * CONFIDENT]
        first = np.argsort(texts[at], kind="stable")[: 2 * self._ask]
        names = list(self._labels)

        def flips(of: np.ndarray) -> Iterator[Flip]:
            ids = texts_of(a.column(0).take(pa.array(rows[at[of]])))
            for id_, k in zip(ids, of.tolist(), strict=True):
                i = at[k]
                yield Flip(
                    str(id_), names[codes[0, i]], names[codes[1, i]],
                    float(scores[0][k]), float(scores[1][k]), int(texts[i]),
                )  # fmt: skip

        found = self._found
        found.confident_flips = _best(
            [*found.confident_flips, *flips(surest)],
            CONFIDENT,
            lambda f: -min(f.score_a, f.score_b),
        )
        found.drawn = _best([*found.drawn, *flips(first)], self._ask, lambda f: f.text)

    def _gold_codes(self, a: pa.Table) -> np.ndarray:
        assert self._gold is not None
        gold = self._gold
        if gold.by_id is None and not gold.renamed:
            return self._coded(a[gold.column])
        return self._coded(pa.array(gold.labels(a), pa.string()))

    def _coded(self, column: Any) -> np.ndarray:
        return _codes_of(column, self._labels)

    def _value_codes(self, name: str, column: Any) -> np.ndarray:
        codes = _codes_of(pc.fill_null(column.cast(pa.string()), "null"), self._values[name])
        if len(self._values[name]) > MOST_VALUES:
            raise ColumnError(
                f"--slices {name}: it has over {MOST_VALUES} values, which are no slices"
            )
        return codes


def _best(flips: list[Flip], most: int, key: Callable[[Flip], float]) -> list[Flip]:
    """The first of the flips in order of the key, each text once."""
    by_text: dict[int, Flip] = {}
    for flip in sorted(flips, key=key):
        by_text.setdefault(flip.text, flip)
    return list(by_text.values())[:most]


def _codes_of(column: Any, known: dict[str, int]) -> np.ndarray:
    """int `[rows]`: each value's number in `known`, which grows; -1: null."""
    encoded = pa.array(texts_of(column), pa.string()).dictionary_encode()
    numbers = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices, -1).to_numpy()
    table = np.array([*numbers, -1])
    codes: np.ndarray = table[indices]
    return codes


def _paired(codes: np.ndarray) -> Paired:
    a, b = codes[0] == codes[2], codes[1] == codes[2]
    return Paired(
        int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()), int((~a & ~b).sum())
    )


def _is_ok(table: pa.Table) -> np.ndarray:
    ok: np.ndarray = pc.equal(table["status"].cast(pa.string()), OK).to_numpy()
    return ok


def _hashes(column: Any, *, last: bool = False) -> np.ndarray:
    """uint64 `[rows]`: the first (or last) eight bytes of each hash; 0 where there is none."""
    whole = pc.fill_null(column.combine_chunks(), b"\0" * 16)
    data = np.frombuffer(whole.buffers()[1], np.uint64, 2 * (whole.offset + len(whole)))
    return data[2 * whole.offset + last :: 2].copy()


def _check_sample(sample: Challenger, job: Job, store: Store) -> None:
    if sample.job != job.id:
        raise ConfigError(
            f"B is a challenger on rows of job {sample.job} in {sample.output}, and {store.uri} "
            f"holds job {job.id}"
        )


def _drawn(table: pa.Table, share: float) -> pa.Table:
    """The rows that a challenger got: see `schemas.records.text_hash.share_limit`."""
    limit = share_limit(share)
    has_hash = table["text_hash"].is_valid().to_numpy()
    if limit < 1 << 64:
        has_hash &= _hashes(table["text_hash"], last=True) < np.uint64(limit)
    return table.filter(pa.array(has_hash))


def _parts(store: Store, job: Job, wanted: Sequence[str]) -> Iterator[pa.Table]:
    """The parts in order, with the id first."""
    for chunk in range(job.chunks):
        name = output_layout.part(chunk)
        try:
            with store.open(name) as file, pq.ParquetFile(file) as part:
                names = part.schema_arrow.names
                missing = [column for column in wanted if column not in names]
                if missing:
                    raise ColumnError(
                        f"{store.uri} has no column {missing[0]}; carry it with --columns when the "
                        f"job is submitted. It has {', '.join(names)}"
                    )
                ours = ["predicted_label", "score", "status", "text_hash"]
                columns = list(dict.fromkeys([names[0], *ours, *wanted]))
                yield part.read(columns=columns).select(columns)
        except FileNotFoundError as error:
            raise ConfigError(f"{store.uri} has no {name}: its job has not finished") from error
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{name}: {error}") from error


def _side_by_side(
    a: Iterator[pa.Table], b: Iterator[pa.Table]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The same rows of both, however each was cut into parts."""
    a, b = (iter(t for t in side if t.num_rows) for side in (a, b))
    one, two = next(a, None), next(b, None)
    row = 0
    while one is not None and two is not None:
        size = min(one.num_rows, two.num_rows)
        left, right = one.slice(0, size), two.slice(0, size)
        ids = [pa.array(texts_of(t.column(0)), pa.string()) for t in (left, right)]
        if not ids[0].equals(ids[1]):
            at = next(
                i
                for i, (x, y) in enumerate(zip(*map(pa.Array.to_pylist, ids), strict=True))
                if x != y
            )
            raise ConfigError(
                f"the outputs are not of the same rows: row {row + at} is {ids[0][at]} in A and "
                f"{ids[1][at]} in B"
            )
        yield left, right
        row += size
        one = one.slice(size) if size < one.num_rows else next(a, None)
        two = two.slice(size) if size < two.num_rows else next(b, None)
    if one is not None or two is not None:
        raise ConfigError(f"the outputs are not of the same rows: one of them ends at row {row}")
