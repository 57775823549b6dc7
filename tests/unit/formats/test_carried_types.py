"""A copied column is the input's, value for value, for any type and any reader."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.inspection.explain import explain
from producers.verification.verify import verify
from tests.unit.small_job import NOW_S, fake_settings, score, submit

D = decimal.Decimal
DAY = dt.date(2026, 11, 24)
WHEN = dt.datetime(2026, 11, 24, 23, 59, 59, 123_456)
IDS = [uuid.UUID(int=n << 90 | 7) for n in (1, 2, 3)]


def json_column(values: list[str | None]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(values, pa.string()))


def uuid_column(values: list[Any]) -> pa.Array:
    raw = [None if v is None else v.bytes for v in values]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(raw, pa.binary(16)))


COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False]),
    **{
        str(t): pa.array([1, None, 100], t)
        for t in (
            pa.int8(), pa.int16(), pa.int32(), pa.int64(),
            pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
            pa.float32(), pa.float64(),
        )
    },
    "halffloat": pa.array([np.float16(1), None, np.float16(100)], pa.float16()),
    "uint64_max": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float_odd": pa.array([float("inf"), None, -0.0]),
    "decimal128": pa.array([D("1.10"), None, D("-99999.99")], pa.decimal128(7, 2)),
    "decimal_small": pa.array([D("1.1"), None, D("-9.9")], pa.decimal128(3, 1)),
    "decimal_wide": pa.array([D(10) ** 30, None, D(-1)], pa.decimal128(38, 0)),
    "string": pa.array(["a", None, "é\x00"]),
    "large_string": pa.array(["a", None, ""], pa.large_string()),
    "string_view": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
    "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
    "dictionary_of_int": pa.array([5, None, 5]).dictionary_encode(),
    "binary": pa.array([b"\x00\xff", None, b""]),
    "large_binary": pa.array([b"\x00\xff", None, b""], pa.large_binary()),
    "fixed_binary": pa.array([b"abc", None, b"\xff\x00\x01"], pa.binary(3)),
    "date32": pa.array([DAY, None, dt.date(1, 1, 1)]),
    "time32_ms": pa.array([dt.time(23, 59, 1), None, dt.time(0)], pa.time32("ms")),
    "time64_us": pa.array([WHEN.time(), None, dt.time(0)], pa.time64("us")),
    "timestamp_ms": pa.array([WHEN.replace(microsecond=1000), None, WHEN.replace(microsecond=0)],
                             pa.timestamp("ms")),
    "timestamp_us": pa.array([WHEN, None, dt.datetime(1, 1, 1)], pa.timestamp("us")),
    "timestamp_utc": pa.array([WHEN, None, WHEN], pa.timestamp("us", "UTC")),
    "timestamp_zone": pa.array([WHEN, None, WHEN], pa.timestamp("us", "Europe/Vienna")),
    "timestamp_ns": pa.array([1_790_000_000_123_456_789, None, 0], pa.timestamp("ns")),
    "duration": pa.array([dt.timedelta(days=1), None, dt.timedelta(0)], pa.duration("us")),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
    "large_list": pa.array([["a"], None, []], pa.large_list(pa.string())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "nan_inside": pa.array([[{"a": float("nan")}], None, [{"a": 1.5}]]),
    "nan_in_map": pa.array([[("k", float("nan"))], None, []], pa.map_(pa.string(), pa.float64())),
    "nested": pa.array([[{"a": [1.5]}], None, [{"a": []}]]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "null": pa.nulls(3),
    "json": json_column(['{"a": 1}', None, "[]"]),
    "uuid": uuid_column([IDS[0], None, IDS[2]]),
}  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job that copies a column of every type."""
    folder = tmp_path_factory.mktemp("types")
    table = pa.table({"text": ["one", "two", "three"], **COLUMNS})
    pq.write_table(table, folder / "in.parquet")
    store, job = submit([folder / "in.parquet"], folder / "out", columns=",".join(COLUMNS))
    score(store, job)
    assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []
    return folder


def by_pyarrow(path: Path) -> dict[str, list[Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_pylist() for name in COLUMNS}


def by_duckdb(path: Path) -> dict[str, list[Any]]:
    table = duckdb.connect().sql(f"FROM '{path}'").to_arrow_table()
    return {name: table[name].to_pylist() for name in COLUMNS}


def by_polars(path: Path) -> dict[str, list[Any]]:
    frame = pl.read_parquet(path)
    return {name: frame[name].to_list() for name in COLUMNS}


@pytest.mark.parametrize("read", [by_pyarrow, by_duckdb, by_polars])
def test_every_type_comes_out_as_it_went_in(output: Path, read: Any) -> None:
    before, after = read(output / "in.parquet"), read(output / "out/data/part-00000.parquet")
    for name in COLUMNS:
        assert repr(after[name]) == repr(before[name]), name


def test_types_are_the_inputs(output: Path) -> None:
    before = pq.read_schema(output / "in.parquet")
    after = pq.read_schema(output / "out/data/part-00000.parquet")
    for name in COLUMNS:
        assert after.field(name).type == before.field(name).type, name


def test_sparks_timestamps_are_copied_as_microseconds(tmp_path: Path) -> None:
    long_ago = dt.datetime(1, 1, 1)  # what nanoseconds cannot hold
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "at": pa.array([WHEN, None, dt.datetime(1970, 1, 1)], pa.timestamp("us")),
            "in": pa.array([{"at": WHEN}, None, {"at": None}]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(tmp_path / "in.parquet").schema.column(1).physical_type == "INT96"
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out", columns="at,in")
    score(store, job)
    part = pq.ParquetFile(tmp_path / "out/data/part-00000.parquet")
    kinds = {c.path: c.physical_type for c in map(part.schema.column, range(len(part.schema)))}
    assert (kinds["at"], kinds["in.at"]) == ("INT64", "INT64")
    found = part.read()
    assert found["at"].type == pa.timestamp("us")
    assert found["at"].to_pylist() == [WHEN, None, dt.datetime(1970, 1, 1)]
    assert found["in"].to_pylist() == [{"at": WHEN}, None, {"at": None}]
    assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []
    assert long_ago < WHEN


def test_what_is_finer_than_a_microsecond_is_cut_off_spark_timestamps(tmp_path: Path) -> None:
    """As the docs say; a plain nanosecond timestamp keeps all its digits."""
    nanoseconds = [1_700_000_000_000_001_999, -1, 0, None]
    at = pa.array(nanoseconds, pa.timestamp("ns"))
    table = pa.table({"text": ["a", "b", "c", "d"], "at": at})
    for name, int96 in (("spark", True), ("plain", False)):
        pq.write_table(table, tmp_path / f"{name}.parquet", use_deprecated_int96_timestamps=int96)
        store, job = submit([tmp_path / f"{name}.parquet"], tmp_path / name, columns="at")
        score(store, job)
        found = pq.read_table(tmp_path / name / "data/part-00000.parquet")["at"]
        if int96:
            assert found.cast(pa.int64()).to_pylist() == [1_700_000_000_000_001, -1, 0, None]
        else:
            assert found.cast(pa.int64()).to_pylist() == nanoseconds
        assert verify(store, fake_settings(), now_s=NOW_S).problems == []


@pytest.mark.parametrize("name", ["string", "large_string", "string_view", "dictionary", "null"])
@pytest.mark.parametrize("other", ["string", "large_string", "dictionary"])
def test_files_of_writers_that_differ_are_one_job(tmp_path: Path, name: str, other: str) -> None:
    for file, kind in (("a", name), ("b", other)):
        table = pa.table({"text": COLUMNS[other], "c": COLUMNS[kind], "text2": COLUMNS[kind]})
        pq.write_table(table, tmp_path / f"{file}.parquet")
    store, job = submit([tmp_path], tmp_path / "_out", columns="c")
    score(store, job)
    found = pq.read_table(tmp_path / "_out/data")["c"].to_pylist()
    assert found == [*COLUMNS[name].to_pylist(), *COLUMNS[other].to_pylist()]
    assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_binary_serves_as_text_and_is_said_to(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array([b"abc", b"\xff", None], kind)})
    pq.write_table(table, tmp_path / "in.parquet")
    from tests.unit.small_job import prepare_small

    prepared = prepare_small([tmp_path / "in.parquet"], tmp_path / "out", fake_settings())
    assert any("its bytes are read as UTF-8" in w for w in prepared.warnings)
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out")
    score(store, job)
    table = pq.read_table(tmp_path / "out/data")
    assert table["length"].to_pylist() == [3, None, None]
    assert table["error_type"].to_pylist() == [None, "invalid_text", "null_text"]


def test_json_and_a_structs_field_serve_as_text(tmp_path: Path) -> None:
    table = pa.table({"doc": COLUMNS["struct"], "j": COLUMNS["json"]})
    pq.write_table(table, tmp_path / "in.parquet")
    for number, (column, lengths) in enumerate({"doc.b": [1, None, 1], "j": [8, None, 2]}.items()):
        out = tmp_path / f"out{number}"
        store, job = submit([tmp_path / "in.parquet"], out, text_column=column)
        score(store, job)
        assert pq.read_table(out / "data")["length"].to_pylist() == lengths
        assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []


def test_a_type_of_many_letters_is_copied(tmp_path: Path) -> None:
    wide = pa.array([{f"a field with a long name {n}": n for n in range(200)}])
    pq.write_table(pa.table({"text": ["a"], "wide": wide}), tmp_path / "in.parquet")
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out", columns="wide")
    assert job.carried[0].type.endswith(job.carried[0].type[-24:])
    score(store, job)
    assert pq.read_table(tmp_path / "out/data")["wide"].to_pylist() == wide.to_pylist()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("uuid", str(IDS[2])), ("uuid", IDS[2].hex), ("binary", "00ff"), ("fixed_binary", "ff0001"),
        ("time64_us", "23:59:59.123456"), ("duration", "86400"), ("duration", "1 day, 0:00:00"),
        ("halffloat", "100"), ("json", '{"a": 1}'), ("date32", "2026-11-24"),
        ("timestamp_us", "2026-11-24T23:59:59.123456"), ("bool", "true"), ("decimal128", "1.1"),
        ("dictionary_of_int", "5"), ("uint64_max", str(2**64 - 1)),
    ],
)  # fmt: skip
def test_a_row_is_found_by_an_id_of_any_type(tmp_path: Path, name: str, asked: str) -> None:
    table = pa.table({"text": ["one", "two", "three"], "key": COLUMNS[name]})
    pq.write_table(table, tmp_path / "in.parquet")
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out", id_column="key")
    score(store, job)
    assert explain(store, asked)["rows"]
