"""What happened to one row: its part, chunk, attempts, stages, error, and its trace."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.output.job_record import require_job
from headrace.output.reuse_index import ReuseIndex
from headrace.process.numbers import short_time
from headrace.process.printable import printable
from headrace.storage.store import PARALLEL_READS, Store
from headrace.tracing.trace_file import SpanRow, read_spans
from producers.inspection.id_search import IdSearch
from schemas.errors import HeadraceError
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records import part_schema
from schemas.records.job import Job


def explain(store: Store, row_id: str, *, jaeger: str | None = None) -> dict[str, Any]:
    """Everything known about the rows with this id; `rows` is empty if no part has it.

    `jaeger` is the address of a Jaeger, for links. The row's text is not included: it is in the
    input, at `input_file` and `input_row`.

    Raises:
        JobNotFound: the output holds no job.
        ColumnError: the id is not of the id column's type.
    """
    job = require_job(store)
    parts = [
        i.name
        for i in store.list(output_layout.DATA)
        if output_layout.chunk_of_part(i.name) is not None
    ]
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = [
            row
            for rows in pool.map(lambda name: _find(store, job, name, row_id), parts)
            for row in rows
        ]
    _add_sources(store, job, found)
    for row in found:
        row["attempts"] = _attempts(store, row["chunk"])
        row["trace_url"] = f"{jaeger.rstrip('/')}/trace/{row['trace_id']}" if jaeger else None
    return {
        "id": row_id,
        "job": job.id,
        "output": store.uri,
        "chunks": job.chunks,
        "parts": len(parts),
        "rows": found,
    }


def _add_sources(store: Store, job: Job, rows: list[dict[str, Any]]) -> None:
    """Say of each row where it was copied from; None for one that was computed."""
    hashes = {row["text_hash"] for row in rows if row["status"] == part_schema.OK}
    places: dict[bytes, tuple[int, int]] = {}
    if job.options.reuse_output is not None and hashes:
        with contextlib.suppress(FileNotFoundError):  # the index is made when the job starts
            places = ReuseIndex.open(store).find(hashes)
    for row in rows:
        place = places.get(row.pop("text_hash")) if row["status"] == part_schema.OK else None
        row.pop("text_hash", None)
        row["copied_from"] = place and {
            "output": job.options.reuse_output,
            "part": output_layout.part(place[0]),
            "part_row": place[1],
        }


def render_explanation(explanation: dict[str, Any]) -> str:
    """The explanation for people; values of the row cannot break a line."""
    rows = explanation["rows"]
    if not rows:
        return (
            f"no row with id {printable(str(explanation['id']))} in the {explanation['parts']} parts of job "
            f"{explanation['job']} ({explanation['chunks']} chunks)"
        )
    return "\n\n".join("\n".join(map(printable, _lines(explanation, row))) for row in rows)


def _lines(explanation: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    yield f"row {explanation['id']}: {row['status']}"
    if row["error_type"]:
        yield f"  error     {row['error_type']}: {row['error_message']}"
    for name, value in row["prediction"].items():
        yield f"  {name:<9} {value if len(str(value)) < 80 else str(value)[:77] + '...'}"
    yield f"  part      {row['part']}, row {row['part_row']}"
    if row["copied_from"]:
        source = row["copied_from"]
        yield f"  copied    from {source['output']}, {source['part']}, row {source['part_row']}"
    yield f"  input     {row['input_file']}, row {row['input_row']}"
    yield f"  chunk     {row['chunk']}, attempt {row['attempt']}"
    yield f"  trace     {row['trace_url'] or row['trace_id']}"
    for attempt in row["attempts"]:
        kind = attempt["error_type"]
        why = f" ({kind})" if kind and kind != attempt["outcome"] else ""
        where = f"on {attempt['worker']}, {short_time(attempt['seconds'])}"
        yield f"  {attempt['started']}  {attempt['outcome']}{why} {where}"
        if attempt["stages_s"]:
            yield "    " + "  ".join(f"{n} {short_time(s)}" for n, s in attempt["stages_s"].items())
        if attempt["last_stage"]:
            yield f"    was at {attempt['last_stage']}, seen by {attempt['seen_by']}"


def _find(store: Store, job: Job, name: str, row_id: str) -> list[dict[str, Any]]:
    """The rows of a part with this id; only row groups that may hold it are read."""
    with store.open(name) as file, pq.ParquetFile(file) as part:
        wanted = IdSearch.of(row_id, part.schema_arrow.field(0))
        column = part.schema_arrow.names[0]
        found, first = [], 0
        for group in range(part.num_row_groups):
            rows = part.metadata.row_group(group)
            if wanted.may_be_in(rows.column(0)):
                ids = part.read_row_group(group, columns=[column])[column]
                at = pc.indices_nonzero(wanted.among(ids.combine_chunks())).to_pylist()
                table = part.read_row_group(group) if at else None
                found += [
                    _row(job, name, part, first + i, table.slice(i, 1))
                    for i in at
                    if table is not None
                ]
            first += rows.num_rows
        return found


def _row(job: Job, name: str, part: pq.ParquetFile, at: int, row: pa.Table) -> dict[str, Any]:
    facts = {k.decode(): v.decode() for k, v in (part.metadata.metadata or {}).items()}
    values = row.to_pylist()[0]
    file, input_row = source_of_row(facts, at)
    ours = {row.column_names[0], *(c.name for c in job.carried), *part_schema.RESERVED}
    return {
        "part": name,
        "part_row": at,
        "chunk": output_layout.chunk_of_part(name),
        "attempt": facts.get(part_schema.META_ATTEMPT),
        "input_file": file,
        "input_row": input_row,
        "status": values["status"],
        "error_type": values["error_type"],
        "error_message": values["error_message"],
        "n_tokens": values["n_tokens"],
        "truncated": values["truncated"],
        "text_hash": values.get("text_hash"),
        "prediction": {n: v for n, v in values.items() if n not in ours and v is not None},
        "trace_id": values["trace_id"] or facts.get(part_schema.META_TRACE),
    }


def source_of_row(facts: Mapping[str, str], row: int) -> tuple[str | None, int]:
    """The input file of a part's row and its row number there, from the part's metadata."""
    first = int(facts.get(part_schema.META_FIRST_ROW, 0))
    at = row
    for file, first_row, rows in json.loads(facts.get(part_schema.META_SOURCES, "[]")):
        if at < rows:
            return str(file), int(first_row) + at
        at -= rows
    return facts.get(part_schema.META_FILE), first + row


def _attempts(store: Store, chunk: int) -> list[dict[str, Any]]:
    """Every attempt on the chunk that left a trace, earliest first."""
    attempts = []
    for info in store.list(output_layout.traces_of(chunk)):
        try:
            spans = read_spans(store.read(info.name) or b"")
        except HeadraceError:
            continue  # a broken trace only loses this line
        attempts += [_attempt(root, spans) for root in spans if root.parent_span_id is None]
    return sorted(attempts, key=lambda a: str(a["started"]))


def _attempt(root: SpanRow, spans: list[SpanRow]) -> dict[str, Any]:
    started = datetime.fromtimestamp(root.start_time_unix_nano / 1e9, UTC)
    children = [
        s for s in spans if s.parent_span_id == root.span_id and names.STAGE in s.attributes
    ]
    return {
        "attempt": root.attributes.get(names.ATTEMPT),
        "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "seconds": root.duration_nano / 1e9,
        "worker": root.attributes.get(names.WORKER),
        "device": root.attributes.get(names.DEVICE),
        "outcome": root.attributes.get(names.OUTCOME),
        "error_type": root.attributes.get(names.ERROR_TYPE),
        "error_message": root.status_message,
        "trace_id": root.trace_id,
        "last_stage": root.attributes.get(names.LAST_STAGE),
        "seen_by": root.attributes.get(names.SEEN_BY),
        "stages_s": {
            str(s.attributes[names.STAGE]): int(s.attributes[names.BUSY_NS]) / 1e9 for s in children
        },
    }
