"""A plan reads back as it was written, and a plan that was touched is refused."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.formats.input_identity import files_digest
from headrace.output.plan_file import PlanTable, write_plan
from headrace.storage.local import LocalStore
from producers.planning.chunking import (
    FileRows,
    Target,
    plan,
)
from schemas.errors import MessageRejected, OutputConflict
from schemas.names import output_layout
from schemas.records.chunk import Chunk, InputFile
from schemas.records.job import parse_job
from schemas.records.message import parse_message
from schemas.records.part_schema import PLAN, PLAN_OF_ROW_GROUPS
from tests.units import row_groups


def some_chunks() -> list[Chunk]:
    """Three files, one of them partitioned, of several chunks each, and two small ones together."""
    files = [
        InputFile("/data/a.parquet", 10, "e-a"),
        InputFile("/data/day=1/b.parquet", 20, "e-b", (("day", "1"), ("land", "Österreich"))),
        InputFile("s3://bucket/c.parquet", 30, '"etag"'),
    ]
    corpus = [FileRows(f, row_groups((100, 1000), (250, 9000))) for f in files]
    small = [InputFile(f"s3://bucket/small/{n}.parquet", 5, f'"{n}"') for n in range(2)]
    corpus += [FileRows(f, row_groups((3, 30))) for f in small]
    return list(plan(corpus, Target(60, 10**9)))


def plan_bytes(tmp_path: Path, chunks: list[Chunk]) -> bytes:
    write_plan(tmp_path / "plan.parquet", chunks)
    return (tmp_path / "plan.parquet").read_bytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return plan_bytes(tmp_path_factory.mktemp("plan"), some_chunks())


def test_a_plan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    chunks = some_chunks()
    totals = write_plan(tmp_path / "plan.parquet", chunks)
    table = PlanTable.from_bytes((tmp_path / "plan.parquet").read_bytes())
    assert list(table) == chunks
    assert (totals.chunks, totals.rows) == (len(table), table.total_rows) == (len(chunks), 1056)
    assert table.files == list(dict.fromkeys(p.file for c in chunks for p in c.pieces))
    assert table.inputs_digest() == files_digest(table.files)
    assert table.rows.dtype == np.int64


def test_chunk_numbers_outside_the_plan_are_an_index_error(data: bytes) -> None:
    table = PlanTable.from_bytes(data)
    for number in (-1, len(table)):
        with pytest.raises(IndexError):
            table.chunk(number)


def test_a_plan_of_several_row_groups_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.output.plan_file.BATCH_CHUNKS", 4)
    chunks = some_chunks()
    data = plan_bytes(tmp_path, chunks)
    assert pq.read_metadata(io.BytesIO(data)).num_row_groups > 2
    assert list(PlanTable.from_bytes(data)) == chunks


def test_a_plan_of_the_time_before_formats_is_read(tmp_path: Path) -> None:
    chunks = some_chunks()
    table = pq.read_table(io.BytesIO(plan_bytes(tmp_path, chunks)))
    old = table.rename_columns({"start": "row_group_start", "stop": "row_group_stop"})
    old = old.select(PLAN_OF_ROW_GROUPS.names).cast(PLAN_OF_ROW_GROUPS)
    out = io.BytesIO()
    pq.write_table(old, out)
    found = PlanTable.from_bytes(out.getvalue())
    assert list(found) == [_without_skip(chunk) for chunk in chunks]
    assert found.inputs_digest() == files_digest(found.files)


def _without_skip(chunk: Chunk) -> Chunk:
    pieces = tuple(dataclasses.replace(piece, skip=-1) for piece in chunk.pieces)
    return dataclasses.replace(chunk, pieces=pieces)


def test_the_types_that_files_do_not_say_are_in_the_plan(tmp_path: Path) -> None:
    types = pa.schema([pa.field("text", pa.string(), metadata={"a": "b"}), ("n", pa.int64())])
    write_plan(tmp_path / "plan.parquet", some_chunks(), types)
    found = PlanTable.from_bytes((tmp_path / "plan.parquet").read_bytes()).types
    assert found.equals(types, check_metadata=True)


def test_an_empty_plan_is_a_plan(tmp_path: Path) -> None:
    assert len(PlanTable.from_bytes(plan_bytes(tmp_path, []))) == 0


def test_an_output_without_a_plan_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputConflict, match=r"has no _headrace/plan\.chunks"):
        PlanTable.load(LocalStore(tmp_path))


def test_a_planner_that_fails_leaves_no_plan_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[Chunk]:
        yield some_chunks()[0]
        raise OSError("the corpus went away")

    store = LocalStore(tmp_path / "out")
    with pytest.raises(OSError, match="went away"):
        write_plan(store.scratch() / "plan.parquet", failing())
    assert store.head(output_layout.PLAN) is None


def replace(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        values = table.column(at).to_pylist()
        values[row] = value
        return table.set_column(at, PLAN.field(at), pa.array(values, PLAN.field(at).type))

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.slice(1),
        lambda t: t.take(list(reversed(range(t.num_rows)))),
        lambda t: pa.concat_tables([t, t]),
        lambda t: t.drop_columns(["etag"]),
        lambda t: t.cast(pa.schema([*list(PLAN)[:-1], pa.field("job_row", pa.int32())])),
        replace("chunk", 3, 7),
        replace("rows", 3, 0),
        replace("rows", 3, 2**62),
        replace("rows", 3, 49),
        replace("first_row", 0, 1),
        replace("first_row", 4, 0),
        replace("job_row", 4, 0),
        replace("stop", 2, 0),
        replace("start", 2, -1),
        replace("skip", 2, -2),
        replace("format", 0, "csv"),
        replace("size", 2, -1),
        replace("bytes", 2, -1),
        replace("file", 2, "/etc/passwd"),
        replace("file", 0, "s3://bucket/c.parquet"),
        replace("etag", 2, "other"),
        replace("partitions", 0, "[]"),
        replace("partitions", 0, "no json"),
        replace("partitions", 0, '{"a": 1}'),
    ],
)
def test_a_plan_that_was_touched_is_refused(
    data: bytes, change: Callable[[pa.Table], pa.Table]
) -> None:
    out = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(data))), out)
    with pytest.raises(OutputConflict):
        PlanTable.from_bytes(out.getvalue())


@settings(max_examples=150, deadline=None)
@given(draws=st.data())
def test_damaged_plans_are_refused_or_read_as_they_were(data: bytes, draws: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draws.draw(st.integers(1, 4))):
        at = draws.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = draws.draw(st.integers(0, 255))
    damaged = damaged[: draws.draw(st.integers(len(damaged) // 2, len(damaged)))]
    refused_or_equal(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000) | st.binary(max_size=500).map(lambda b: b"PAR1" + b + b"PAR1"))
def test_bytes_that_are_no_plan_are_refused(junk: bytes) -> None:
    with pytest.raises(OutputConflict):
        PlanTable.from_bytes(junk)


def refused_or_equal(data: bytes) -> None:
    """A byte that decides nothing (a statistic, a name) may change; a plan's rows may not."""
    try:
        table = PlanTable.from_bytes(data)
    except OutputConflict:
        return
    assert table.total_rows == sum(chunk.rows for chunk in table)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)
names = st.sampled_from(["v", "job", "output", "chunks", "traceparent"]) | st.text(max_size=9)
likely = st.dictionaries(
    names, json_values | st.just("0" * 16) | st.lists(st.integers(0, 9), max_size=9)
)


@settings(max_examples=200, deadline=None)
@given(json_values | likely)
def test_any_message_body_is_parsed_or_rejected(body: object) -> None:
    try:
        message = parse_message(body)
    except MessageRejected:
        return
    assert all(0 <= chunk <= 2**31 for chunk in message.chunks)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode()))
def test_any_job_record_is_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(OutputConflict):
        parse_job(data, "job.json")
