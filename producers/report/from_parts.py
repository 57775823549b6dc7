"""Reads some parts: lengths, labels and scores of rows, and examples of errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.storage.store import PARALLEL_READS, Store
from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.structure import PARSE_ERROR
from headrace.tasks.spec import TaskSpec
from producers.report.from_traces import evenly
from schemas.errors import error_types
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import Receipt

ReadText = Callable[[int, str, int], str | None]
"""From a chunk's number, the text column and the row within the chunk to the text."""

OUR_CLASSES = (
    frozenset({"null_text", "invalid_text", "invalid_line", "worker_lost", "timeout"})
    | error_types()
)
"""Classes of errors whose messages are headrace's own, and never hold a row's text."""

PARTS = 48
EXAMPLES = 5
# chosen, all three: the plots of a large job do not change with more, and it takes seconds


@dataclass(frozen=True, slots=True)
class Example:
    """A row that failed; its text only where texts were asked for."""

    id: str
    message: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Rows that failed with the same class of error."""

    error_type: str
    rows: int
    message: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class RowSample:
    """Rows of some parts: what was read, out of how many."""

    rows: int
    tokens: np.ndarray
    labels: Counter[str] = field(default_factory=Counter)
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    agreements: tuple[Agreement, ...] = ()
    unparsed: int = 0
    """Rows whose answer has not the form that the job asks for."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the predicted label is the value of a carried column that holds labels."""

    column: str
    equal: int
    of: int


def sample_rows(store: Store, job: Job, chunks: list[int]) -> RowSample:
    """Lengths of the rows of some parts, with the labels and scores that the task says it writes."""
    spec = task_spec(job.spec.task)
    carried = tuple(column.name for column in job.carried)
    form = {PARSE_ERROR} & {*spec.more_columns(job.spec.params)}
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        tables = [
            t
            for t in pool.map(
                lambda c: _columns(store, spec, c, (*carried, *form)), evenly(sorted(chunks), PARTS)
            )
            if t
        ]
    labels: Counter[str] = Counter()
    tokens, scores = [np.empty(0)], [np.empty(0)]
    for table in tables:
        tokens.append(_numbers(_column(table, "n_tokens")))
        labels.update(_texts(_column(table, spec.label_column)))
        scores.append(_numbers(_column(table, spec.score_column)))
    rows = sum(t.num_rows for t in tables)
    agreed = tuple(agreements(tables, spec.label_column, carried, frozenset(labels)))
    unparsed = sum(len(_column(table, name)) for table in tables for name in form)
    return RowSample(rows, np.concatenate(tokens), labels, np.concatenate(scores), agreed, unparsed)


def agreements(
    tables: Sequence[pa.Table], label: str | None, carried: Sequence[str], labels: frozenset[str]
) -> Iterator[Agreement]:
    """For each carried column whose values are labels of the model: rows that agree with it."""
    for name in carried:
        equal = of = 0
        fits = label is not None and "." not in label
        for table in tables if fits else ():
            gold, said = _words(table, name), _words(table, str(label))
            fits = fits and set(gold) - {None} <= labels
            pairs = [(a, b) for a, b in zip(gold, said, strict=True) if a and b]
            equal, of = equal + sum(a == b for a, b in pairs), of + len(pairs)
        if fits and of:
            yield Agreement(name, equal, of)


def _words(table: pa.Table, name: str) -> list[str | None]:
    """A column's values as text; nothing that is nested is a label."""
    if name not in table.column_names or pa.types.is_nested(table[name].type):
        return [None] * table.num_rows
    words: list[str | None] = table[name].cast(pa.string()).to_pylist()
    return words


def _columns(
    store: Store, spec: TaskSpec, chunk: int, carried: Sequence[str] = ()
) -> pa.Table | None:
    paths = ("n_tokens", spec.label_column, spec.score_column, *carried)
    wanted = {path.partition(".")[0] for path in paths if path}
    try:
        with store.open(output_layout.part(chunk)) as file, pq.ParquetFile(file) as part:
            return part.read(columns=[n for n in part.schema_arrow.names[1:] if n in wanted])
    except (OSError, pa.ArrowException):
        return None  # `verify` reports missing parts


def _column(table: pa.Table, path: str | None) -> pa.Array:
    """The values of a column, or of a field of its structs (`entities.label`), without nulls."""
    name, _, inner = (path or "").partition(".")
    if name not in table.column_names:
        return pa.nulls(0)
    values = table[name].combine_chunks()
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    return (pc.struct_field(values, inner) if inner else values).drop_null()


def _numbers(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=float)


def _texts(values: pa.Array) -> dict[str, int]:
    counts = pc.value_counts(values.cast(pa.string())).to_pylist()
    return {c["values"]: c["counts"] for c in counts}


def read_errors(
    store: Store, job: Job, receipts: Sequence[Receipt], ask: ReadText | None
) -> Iterator[ErrorClass]:
    """Each class of error rows, most frequent first, with examples."""
    by_type: Counter[str] = Counter()
    for receipt in receipts:
        by_type.update(receipt.errors_by_type)
    for kind, rows in by_type.most_common():
        chunks = [r.chunk for r in receipts if r.errors_by_type.get(kind)][:EXAMPLES]
        found = [e for c in chunks for e in _examples(store, c, kind, job.spec.text_source, ask)]
        examples = tuple(found[:EXAMPLES])
        yield ErrorClass(kind, rows, examples[0].message if examples else "", examples)


def _examples(
    store: Store, chunk: int, kind: str, text_column: str, ask: ReadText | None
) -> Iterator[Example]:
    """Some rows of a part that failed with this error."""
    with store.open(output_layout.part(chunk)) as file, pq.ParquetFile(file) as part:
        id_column = part.schema_arrow.names[0]
        table = part.read(columns=[id_column, "error_type", "error_message"])
    is_kind = pc.equal(table["error_type"].cast(pa.string()), kind).combine_chunks()
    for at in pc.indices_nonzero(is_kind).to_pylist()[:EXAMPLES]:
        text = None
        if ask is not None:
            text = ask(chunk, text_column, at)
        message = table["error_message"][at].as_py() or ""
        if ask is None and kind not in OUR_CLASSES:
            message = ""  # an error of a library may quote the row
        yield Example(str(table[id_column][at]), message, text)
