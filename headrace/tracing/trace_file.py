"""`_traces/*.spans`, Parquet files: spans in OpenTelemetry's data model, one row each.

`SpanRow` is the one form of a finished span in headrace: the file is made from it, and so is what
goes to a collector, so that both always agree. All attributes are in the map `attributes` (as
text); those that are often queried have typed columns too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InputUnreadable
from schemas.names import telemetry as names

Value = str | int | float | bool
Kind = Literal["INTERNAL", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
StatusCode = Literal["UNSET", "OK", "ERROR"]


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a span of another trace."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A finished span. Ids are lower-case hex: 32 digits a trace, 16 a span."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: Kind
    start_time_unix_nano: int
    duration_nano: int
    status_code: StatusCode = "UNSET"
    status_message: str | None = None
    links: tuple[Link, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    sample_ns: tuple[int, ...] = ()
    """Durations of randomly chosen calls of the stage, for percentiles over chunks."""


_TYPES: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_TEXT_MAP = pa.map_(pa.string(), pa.string())

COLUMNS: dict[str, str] = {
    "job": names.JOB_ID,
    "chunk": names.CHUNK,
    "attempt": names.ATTEMPT,
    "attempt_number": names.ATTEMPT_NUMBER,
    "worker": names.WORKER,
    "device": names.DEVICE,
    "model": names.MODEL,
    "operation": names.MESSAGING_OPERATION_TYPE,
    "stage": names.STAGE,
    "outcome": names.OUTCOME,
    "error_type": names.ERROR_TYPE,
    "rows": "headrace.rows",
    "ok_rows": "headrace.ok_rows",
    "error_rows": "headrace.error_rows",
    "tokens": "headrace.tokens",
    "padding_tokens": "headrace.padding_tokens",
    "batches": "headrace.batches",
    "bytes": "headrace.bytes",
    "calls": names.CALLS,
    "busy_ns": names.BUSY_NS,
    "call_p50_ns": names.CALL_P50_NS,
    "call_p95_ns": names.CALL_P95_NS,
    "call_p99_ns": names.CALL_P99_NS,
}
"""Typed columns, and the attribute that each repeats."""

TRACES = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("span_id", pa.string(), nullable=False),
        pa.field("parent_span_id", pa.string()),
        pa.field(
            "links", pa.list_(pa.struct([("trace_id", pa.string()), ("span_id", pa.string())]))
        ),
        pa.field("name", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start_time_unix_nano", pa.int64(), nullable=False),
        pa.field("duration_nano", pa.int64(), nullable=False),
        pa.field("status_code", pa.string(), nullable=False),
        pa.field("status_message", pa.string()),
        *(pa.field(column, _TYPES[names.ATTRIBUTES[a].type]) for column, a in COLUMNS.items()),
        pa.field("sample_ns", pa.list_(pa.int64())),
        pa.field("attributes", _TEXT_MAP),
        pa.field("resource", _TEXT_MAP),
    ],
    metadata={"headrace.traces": "1"},
)

_PLAIN = (
    *("trace_id", "span_id", "parent_span_id", "name", "kind"),
    *("start_time_unix_nano", "duration_nano", "status_code", "status_message"),
)


def spans_to_table(rows: Sequence[SpanRow]) -> pa.Table:
    """The spans as a table of the schema `TRACES`."""
    data: dict[str, list[Any]] = {name: [getattr(r, name) for r in rows] for name in _PLAIN}
    for column, attribute in COLUMNS.items():
        data[column] = [r.attributes.get(attribute) for r in rows]
    data["links"] = [
        [{"trace_id": k.trace_id, "span_id": k.span_id} for k in r.links] for r in rows
    ]
    data["sample_ns"] = [list(r.sample_ns) or None for r in rows]
    data["attributes"] = [[(k, _as_text(v)) for k, v in r.attributes.items()] for r in rows]
    data["resource"] = [list(r.resource.items()) for r in rows]
    return pa.table(data, schema=TRACES)


def spans_to_parquet(rows: Sequence[SpanRow]) -> bytes:
    """The spans as a whole Parquet file."""
    out = io.BytesIO()
    # few rows: dictionaries and statistics would cost more than they save
    pq.write_table(spans_to_table(rows), out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def read_spans(source: bytes | Any) -> list[SpanRow]:
    """The spans in a file: its bytes, or anything pyarrow reads from.

    Raises:
        InputUnreadable: the file is not Parquet, or its columns are not those of `TRACES`.
    """
    try:
        # not `read_table`: with pyarrow 26 its threads end a process that exits soon after (SIGABRT)
        with pq.ParquetFile(
            pa.BufferReader(source) if isinstance(source, bytes) else source
        ) as file:
            return list(spans_of(file.read(use_threads=False)))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputUnreadable(
            f"a trace file cannot be read ({type(error).__name__}): delete it or write it again"
        ) from error


def spans_of(table: pa.Table) -> Iterable[SpanRow]:
    """The rows of a table of the schema `TRACES`, with each attribute's own type."""
    for row in table.to_pylist():
        yield SpanRow(
            **{name: row[name] for name in _PLAIN},
            links=tuple(Link(k["trace_id"], k["span_id"]) for k in row["links"] or ()),
            attributes={k: _as_value(k, v) for k, v in row["attributes"] or ()},
            resource=dict(row["resource"] or ()),
            sample_ns=tuple(row["sample_ns"] or ()),
        )


def _as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_value(name: str, text: str) -> Value:
    known = names.ATTRIBUTES.get(name)
    return known.type(text) if known else text
