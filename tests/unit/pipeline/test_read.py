"""Rows as they lie in the file: every string type, any bytes, any cut, ids and partitions kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.formats import parquet
from headrace.formats.base import RowReader
from headrace.formats.opener import InputOpener, etag_of
from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import InputChanged, InputUnreadable
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import ModelRef, Spec
from schemas.records.text_hash import text_hash
from workers.pipeline.read import WindowSizes, read_windows
from workers.pipeline.rows import (
    INVALID_TEXT,
    NULL_TEXT,
    RowError,
    Window,
)

SPEC = Spec(
    inputs_digest="d",
    text_column="text",
    task="fake",
    model=ModelRef(uri="none", revision="none"),
    dtype="float32",
)


def read(
    path: Path, first: int, rows: int, groups: tuple[int, int], spec: Spec = SPEC, **more: Any
) -> list[Window]:
    file = InputFile(str(path), path.stat().st_size, "e", more.pop("partitions", ()))
    piece = Piece(file, *groups, -1, first, rows, more.pop("bytes", 10 * rows))
    chunk = Chunk(0, (piece,), first)
    size = more.pop("window_rows", 8_192)
    first_rows = more.pop("first_rows", None)
    return list(
        read_windows(open_file, chunk, spec, observe_nothing, sizes=WindowSizes(size, first_rows))
    )


def open_file(file: InputFile) -> RowReader:
    return InputOpener(open_from)(file)


def open_from(uri: str) -> Store:
    return open_store(uri, load_settings())


def texts(windows: Iterable[Window]) -> list[Any]:
    return [t for w in windows for t in w.texts]


VALUES = ["plain", None, "", "  ", "héllo", "😀 \x00 end", "مرحبا"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_every_string_type_gives_the_same_texts(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(VALUES, pa.string()).cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "t.parquet")
    windows = read(tmp_path / "t.parquet", 0, 7, (0, 1))
    assert texts(windows) == [NULL_TEXT if v is None else v for v in VALUES]
    hashes = [h for w in windows for h in w.hashes]
    assert hashes == [None if v is None else text_hash(v.encode()) for v in VALUES]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe",
        b"cut \xc3",
        b"\xed\xa0\x80 lone surrogate",
        b"\xc0\x80 overlong",
        b"\xf5\x80\x80\x80",
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_bytes_that_are_no_text_are_an_error_of_their_row_only(
    tmp_path: Path, raw: bytes, kind: pa.DataType
) -> None:
    values = pa.array([b"before", raw, b"after"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, values.buffers())
    table = pa.table({"text": column.cast(kind) if kind == pa.string() else _as(column, kind)})
    pq.write_table(table, tmp_path / "t.parquet")
    assert texts(read(tmp_path / "t.parquet", 0, 3, (0, 1))) == ["before", INVALID_TEXT, "after"]


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The bytes under another type, without a check of their text."""
    binary = pa.large_binary() if kind == pa.large_string() else pa.binary_view()
    return column.cast(pa.binary()).cast(binary).view(kind)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 rows in groups of 100, 200, 300."""
    path = tmp_path_factory.mktemp("grouped") / "t.parquet"
    schema = pa.schema([("text", pa.string()), ("key", pa.uint16())])
    with pq.ParquetWriter(path, schema) as writer:
        at = 0
        for size in (100, 200, 300):
            rows = range(at, at + size)
            batch = pa.table({"text": [f"t{i}" for i in rows], "key": list(rows)}, schema=schema)
            writer.write_table(batch, row_group_size=size)
            at += size
    return path


ENDS = [0, 100, 300, 600]


@given(
    st.integers(0, 599), st.integers(1, 600), st.integers(1, 200), st.none() | st.integers(1, 99)
)
@settings(max_examples=60, deadline=None)
def test_any_slice_of_any_row_groups_is_read_exactly(
    grouped: Path, first: int, rows: int, size: int, small: int | None
) -> None:
    rows = min(rows, 600 - first)
    low = max(g for g in range(3) if ENDS[g] <= first)
    high = min(g for g in range(1, 4) if ENDS[g] >= first + rows)
    windows = read(grouped, first, rows, (low, high), window_rows=size, first_rows=small)
    assert texts(windows) == [f"t{i}" for i in range(first, first + rows)]
    assert [w.start for w in windows] == [sum(map(len, windows[:n])) for n in range(len(windows))]
    ids = [i for w in windows for i in w.carried.column("id").to_pylist()]
    assert ids == list(range(first, first + rows))


def test_windows_may_begin_small_so_that_the_device_does_not_wait(grouped: Path) -> None:
    windows = read(grouped, 0, 600, (0, 3), window_rows=150, first_rows=16)
    # pieces of what is read, 150 rows each time
    assert [len(w) for w in windows] == [16, 32, 64, 38, 150, 150, 150]


def test_large_rows_make_small_windows(grouped: Path) -> None:
    windows = read(grouped, 0, 100, (0, 1), bytes=100 << 20)
    assert max(len(w) for w in windows) <= 16


def test_the_id_column_keeps_its_name_and_type(grouped: Path) -> None:
    spec = SPEC.model_copy(update={"id_column": "key", "columns": ("text",)})
    carried = read(grouped, 100, 50, (1, 2), spec)[0].carried
    assert carried.schema == pa.schema([("key", pa.uint16()), ("text", pa.string())])
    assert carried.column("key").to_pylist() == list(range(100, 150))


def test_partition_columns_come_from_the_path(grouped: Path) -> None:
    spec = SPEC.model_copy(update={"columns": ("day", "key")})
    carried = read(grouped, 0, 3, (0, 1), spec, partitions=(("day", "2026-01-02"),))[0].carried
    assert carried.schema.names == ["id", "day", "key"]
    assert carried.column("day").to_pylist() == ["2026-01-02"] * 3


def test_pairs_are_read_and_one_bad_half_spoils_the_row(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "c"], "other": ["x", "y", None]})
    pq.write_table(table, tmp_path / "t.parquet")
    spec = SPEC.model_copy(update={"text_pair_column": "other"})
    (window,) = read(tmp_path / "t.parquet", 0, 3, (0, 1), spec)
    of_other = RowError("null_text", "column 'other': the text is null")
    assert list(window.texts) == ["a", NULL_TEXT, of_other]
    assert list(window.hashes) == [text_hash(b"a", b"x"), None, None]
    assert window.pairs is not None
    assert window.pairs[0] == "x"


def test_fewer_rows_than_planned_are_a_changed_input(grouped: Path) -> None:
    with pytest.raises(InputChanged, match="ends at row 600"):
        read(grouped, 550, 100, (2, 3))


def test_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    found = etag_of(open_from(str(tmp_path)), path.name, "parquet")
    assert found is not None
    file = InputFile(str(path), *found)
    opener = InputOpener(open_from)
    assert opener.unchanged(file).rows == 1
    for changed in (replace(file, size=file.size + 1), replace(file, etag="other")):
        with pytest.raises(InputChanged):
            opener.unchanged(changed)
    path.unlink()
    with pytest.raises(InputChanged):
        opener.unchanged(file)


@pytest.mark.parametrize("damage", ["cut", "page"])
def test_a_damaged_file_is_unreadable_and_named(grouped: Path, tmp_path: Path, damage: str) -> None:
    data = bytearray(grouped.read_bytes())
    if damage == "cut":
        data = data[:-1]
    else:
        data[4:400] = b"\xaa" * 396
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(data)
    with pytest.raises(InputUnreadable, match=r"broken\.parquet"):
        read(broken, 0, 100, (0, 1))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_text_that_does_not_fit_its_pages_checksum_is_not_read(
    tmp_path: Path, version: str, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "flipped.parquet"
    table = pa.table({"text": [f"hello world {n}" for n in range(100)]})
    pq.write_table(
        table, path, write_page_checksum=True, compression="none", use_dictionary=False,
        data_page_version=version,
    )  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"hello world 77", b"jello world 77"))
    if not whole:
        monkeypatch.setattr(parquet, "WHOLE_BYTES", 0)
    with pytest.raises(InputUnreadable, match=r"flipped\.parquet .* does not fit its checksum"):
        read(path, 0, 100, (0, 1))


def test_a_giant_row_group_is_never_held_whole(tmp_path: Path) -> None:
    rows, text = 40_000, "x" * 2_500
    column = pa.array([f"{n} {text}" for n in range(rows)])
    path = tmp_path / "giant.parquet"
    pq.write_table(
        pa.table({"text": column}),
        path,
        row_group_size=rows,
        compression="none",
        use_dictionary=False,
    )
    del column
    file = InputFile(str(path), path.stat().st_size, "e")
    chunk = Chunk(0, (Piece(file, 0, 1, 20_000, 20_000, 4_000, 4_000 * 2_500),), 0)
    before, most = pa.total_allocated_bytes(), 0
    for window in read_windows(open_file, chunk, SPEC, observe_nothing):
        most = max(most, pa.total_allocated_bytes() - before)
        assert window.texts[0] == f"{20_000 + window.start} {text}"
        assert sum(len(str(t)) for t in window.texts) <= 5 << 18
    assert most < 25 << 20 < path.stat().st_size
