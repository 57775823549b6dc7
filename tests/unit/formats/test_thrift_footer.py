"""Column sizes are those that pyarrow reads, and no footer, however damaged, ends the process."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.formats.base import Request
from headrace.formats.parquet import Parquet
from headrace.formats.thrift_footer import FooterError, column_sizes
from schemas.errors import InputUnreadable

TABLE = pa.table(
    {
        "id": list(range(150)),
        "text": ["a", "bb", None] * 50,
        "a.b": ["x"] * 150,
        "nested": [{"text": "t", "n": [1, 2]}] * 150,
        "flag": [True, False, None] * 50,
    },
    metadata={"key": "value"},
)


def footer_of(**options: object) -> tuple[bytes, pq.FileMetaData, int]:
    """The footer's bytes, what pyarrow makes of them, and the size of the file."""
    out = io.BytesIO()
    pq.write_table(TABLE, out, row_group_size=40, **options)
    data = out.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8], pq.read_metadata(io.BytesIO(data)), len(data)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"use_dictionary": False}, {"compression": "zstd"}, {"write_statistics": False},
        {"write_page_index": True}, {"data_page_version": "2.0"}, {"version": "1.0"},
    ],
)  # fmt: skip
def test_sizes_are_those_that_pyarrow_reads(options: dict[str, object]) -> None:
    footer, metadata, _ = footer_of(**options)
    columns = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    found = column_sizes(footer, columns)
    assert not found.encrypted
    assert len(found.row_groups) == metadata.num_row_groups == 4
    for number, sizes in enumerate(found.row_groups):
        group = metadata.row_group(number)
        for place, path in enumerate(columns):
            column = group.column(place)
            assert sizes[path].compressed == column.total_compressed_size
            assert sizes[path].uncompressed == column.total_uncompressed_size
            starts = [column.data_page_offset]
            if column.has_dictionary_page:
                starts.append(column.dictionary_page_offset)
            assert sizes[path].start == min(starts)


def test_only_wanted_columns_are_kept() -> None:
    footer, _, _ = footer_of()
    assert [list(g) for g in column_sizes(footer, ("text",)).row_groups] == [["text"]] * 4


FOOTER, _, SIZE = footer_of()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_footer_is_read_or_refused(draws: st.DataObject) -> None:
    """Before the sizes were read by hand, pyarrow ended the process on one in 4,000 of these."""
    damaged = bytearray(FOOTER)
    for _ in range(draws.draw(st.integers(1, 3))):
        at = draws.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + draws.draw(st.integers(0, 3))] = draws.draw(st.binary(max_size=3))
    try:
        # as long as the file was: the pages that the footer names fit in
        tail = bytes(damaged) + len(damaged).to_bytes(4, "little") + b"PAR1"
        file = io.BytesIO(b"PAR1" + bytes(SIZE) + tail)
        request = Request("file", ("text",), ("id", "nested"))
        units = Parquet().scan(file, len(file.getvalue()), request).units
    except InputUnreadable:
        return
    assert all(unit.rows >= 0 and unit.text_bytes >= 0 for unit in units)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(junk: bytes) -> None:
    try:
        column_sizes(junk, ("text",))
    except FooterError:
        return


@pytest.mark.parametrize(
    "bomb",
    [b"\x4c" * 10_000, b"\x49\xfc\xff\xff\xff\x7f", b"\x1b\xff\xff\xff\x7f\x11", b"\x16" + b"\xff" * 20],
    ids=["deep", "long-list", "long-map", "long-number"],
)  # fmt: skip
def test_a_bomb_is_refused(bomb: bytes) -> None:
    with pytest.raises(FooterError):
        column_sizes(bomb, ())
