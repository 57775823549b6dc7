"""Single rows on the page: some of all of them with their texts, and the ids of those that failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from producers.report.from_parts import ReadText
from producers.report.from_traces import evenly
from schemas.errors import HeadraceError
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import Receipt

MOST_IDS = 5_000  # chosen: some 100 kB of the page
ID_PARTS = 200  # chosen: read in seconds from an object store
ROWS = 12  # chosen: a look at the work, not a file of it
LONGEST = 200


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row with its text and what the model said of it."""

    id: str
    label: str
    score: float | None
    text: str


@dataclass(frozen=True, slots=True)
class FailedIds:
    """Ids of error rows by class, in the order of the job; `of` is how many there are in all."""

    by_type: dict[str, list[str]]
    of: int

    @property
    def shown(self) -> int:
        return sum(map(len, self.by_type.values()))


def failed_ids(store: Store, receipts: Sequence[Receipt]) -> FailedIds:
    """The ids of the rows that failed, up to a number."""
    found = FailedIds({}, sum(r.errors for r in receipts))
    for chunk in sorted(r.chunk for r in receipts if r.errors)[:ID_PARTS]:
        table = _read(store, chunk, ("error_type",))
        if table is None:
            continue
        kinds = table["error_type"].cast(pa.string()).to_pylist()
        for at, kind in enumerate(kinds):
            if kind is None:
                continue
            if found.shown >= MOST_IDS:
                return found
            found.by_type.setdefault(kind, []).append(str(table[0][at])[:LONGEST])
    return found


def show_rows(
    store: Store, job: Job, receipts: Sequence[Receipt], ask: ReadText
) -> Iterator[ShownRow]:
    """Some scored rows from all over the job, with their texts; none where the input is gone."""
    spec = task_spec(job.spec.task)
    names = [n for n in (spec.label_column, spec.score_column) if n and "." not in n]
    chunks = evenly(sorted(r.chunk for r in receipts if r.ok), ROWS)
    each = -(-ROWS // max(1, len(chunks)))
    for chunk in chunks:
        table = _read(store, chunk, ("status", *names))
        if table is None:
            continue
        status = table["status"].cast(pa.string()).to_pylist()
        fine = [at for at, value in enumerate(status) if value == "ok"]
        for at in evenly(fine, each):
            text = ask(chunk, job.spec.text_source, at)
            if text is not None:
                yield _shown(table, at, spec.label_column, spec.score_column, text)


def _shown(table: pa.Table, at: int, label: str | None, score: str | None, text: str) -> ShownRow:
    def value(name: str | None) -> object:
        return table[name][at].as_py() if name in table.column_names else None

    said, number = value(label), value(score)
    return ShownRow(
        id=str(table[0][at])[:LONGEST],
        label="" if said is None else str(said)[:LONGEST],
        score=number if isinstance(number, float) else None,
        text=text,
    )


def _read(store: Store, chunk: int, names: Sequence[str]) -> pa.Table | None:
    """The id column and these; None where the part is gone."""
    try:
        with store.open(output_layout.part(chunk)) as file, pq.ParquetFile(file) as part:
            known = part.schema_arrow.names
            return part.read(columns=[known[0], *(n for n in names if n in known[1:])])
    except (OSError, HeadraceError, pa.ArrowException):
        return None
