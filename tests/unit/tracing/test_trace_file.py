"""Spans in Parquet: nothing is lost on the way there and back."""

from __future__ import annotations

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tracing.trace_file import (
    COLUMNS,
    TRACES,
    Link,
    SpanRow,
    read_spans,
    spans_to_parquet,
)
from schemas.errors import InputUnreadable
from schemas.names import telemetry as names

_BY_TYPE: dict[type, st.SearchStrategy[object]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
}
_ATTRIBUTES = st.fixed_dictionaries(
    {}, optional={name: _BY_TYPE[known.type] for name, known in names.ATTRIBUTES.items()}
)
_HEX = "0123456789abcdef"
_SPANS = st.builds(
    SpanRow,
    trace_id=st.text(_HEX, min_size=32, max_size=32),
    span_id=st.text(_HEX, min_size=16, max_size=16),
    parent_span_id=st.none() | st.text(_HEX, min_size=16, max_size=16),
    name=st.text(min_size=1, max_size=20),
    kind=st.sampled_from(["INTERNAL", "CLIENT", "PRODUCER", "CONSUMER"]),
    start_time_unix_nano=st.integers(0, 2**62),
    duration_nano=st.integers(0, 2**62),
    status_code=st.sampled_from(["UNSET", "OK", "ERROR"]),
    status_message=st.none() | st.text(max_size=20),
    links=st.lists(st.builds(Link, st.text(_HEX), st.text(_HEX)), max_size=2).map(tuple),
    attributes=_ATTRIBUTES,
    resource=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    sample_ns=st.lists(st.integers(0, 2**62), max_size=3).map(tuple),
)


@given(st.lists(_SPANS, max_size=4))
def test_spans_come_back_as_they_were(rows: list[SpanRow]) -> None:
    assert read_spans(spans_to_parquet(rows)) == rows


def test_the_columns_people_ask_for_are_typed() -> None:
    attributes = {names.JOB_ID: "j", names.CHUNK: 3, "headrace.rows": 5, names.BUSY_NS: 9}
    row = SpanRow("a" * 32, "b" * 16, None, "forward", "INTERNAL", 1, 2, attributes=attributes)
    table = pq.read_table(io.BytesIO(spans_to_parquet([row])))
    assert table.schema.equals(TRACES)
    found = table.to_pylist()[0]
    assert (found["job"], found["chunk"], found["rows"], found["busy_ns"]) == ("j", 3, 5, 9)
    assert found["device"] is None
    assert dict(found["attributes"]) == {k: str(v) for k, v in attributes.items()}


def test_every_typed_column_repeats_an_attribute_that_has_a_name() -> None:
    assert set(COLUMNS.values()) <= set(names.ATTRIBUTES)


@pytest.mark.parametrize("data", [b"", b"not parquet", spans_to_parquet([])[:-8]])
def test_a_broken_file_is_said_to_be_one(data: bytes) -> None:
    with pytest.raises(InputUnreadable, match="trace file"):
        read_spans(data)


def test_a_parquet_file_of_something_else_is_refused() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), out)
    with pytest.raises(InputUnreadable):
        read_spans(out.getvalue())


def test_a_process_that_has_read_traces_ends_in_peace() -> None:
    """pyarrow 26.0.1: 29 of 40 processes that used `read_table` were aborted at their exit."""
    code = (
        "from headrace.tracing.trace_file import *\n"
        "row = SpanRow('a' * 32, 'b' * 16, None, 'read', 'INTERNAL', 1, 2)\n"
        "assert read_spans(spans_to_parquet([row])) == [row]"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=True)
