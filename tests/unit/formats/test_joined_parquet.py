"""Parquet files put one after the other are refused; what writers leave unused is not."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.formats.base import Request, Scan
from headrace.formats.parquet import Parquet
from schemas.errors import InputUnreadable

REQUEST = Request("day.parquet", ("text",), ("id",))


class CountedFile(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


def written(letter: str, rows: int = 100, **options: Any) -> bytes:
    out = io.BytesIO()
    table = pa.table({"text": [f"{letter} {n}" for n in range(rows)], "id": list(range(rows))})
    pq.write_table(table, out, row_group_size=40, **options)
    return out.getvalue()


def scan(data: bytes) -> tuple[Scan, int]:
    """The scan, and how many reads it took."""
    file = CountedFile(data)
    return Parquet().scan(file, len(data), REQUEST), file.reads


WRITERS: list[dict[str, Any]] = [
    {}, {"write_page_index": True}, {"use_dictionary": False, "compression": "none"},
    {"bloom_filter_options": {"text": {"ndv": 100}}, "write_page_index": True},
]  # fmt: skip


@pytest.mark.parametrize("options", WRITERS)
def test_files_put_one_after_the_other_are_refused(options: dict[str, Any]) -> None:
    first, last = written("a", **options), written("b", rows=70, **options)
    # what happens without the refusal: the last file's count, and the first one's rows
    read = pq.read_table(io.BytesIO(written("a") + written("b")), columns=["text"])
    assert read["text"].to_pylist() == [f"a {n}" for n in range(100)]
    for joined in (first + last, first * 3 + last, written("a", rows=1) + last):
        with pytest.raises(InputUnreadable, match="several files, one after the other") as refused:
            scan(joined)
        assert f"begins at byte {len(joined) - len(last):,}" in str(refused.value)


def test_a_file_with_something_before_it_is_refused() -> None:
    with pytest.raises(InputUnreadable, match="one after the other"):
        scan(b"text,id\n" * 100 + written("b"))


@pytest.mark.parametrize(
    ("before", "what"), [(b"\xef\xbb\xbf", "a byte order mark"), (b"\n", "something")]
)
def test_a_file_with_a_mark_before_it_is_refused(before: bytes, what: str) -> None:
    with pytest.raises(InputUnreadable, match=f"has {what} before its first byte"):
        scan(before + written("b"))


@pytest.mark.parametrize("options", WRITERS)
def test_a_file_as_it_was_written_takes_one_read(options: dict[str, Any]) -> None:
    found, reads = scan(written("a", **options))
    assert (sum(unit.rows for unit in found.units), reads) == (100, 1)


def between(data: bytes, extra: bytes) -> bytes:
    """The file with bytes between its last page and its footer, as old writers and indexes of one's own leave them."""
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:at] + extra + data[at:]


@pytest.mark.parametrize("extra", [b"x" * 20, b"IDX1" * 2_000, b"PAR1" * 10])
def test_bytes_before_the_footer_are_no_reason_to_refuse(extra: bytes) -> None:
    assert sum(unit.rows for unit in scan(between(written("a"), extra))[0].units) == 100


def test_a_file_of_an_older_writer_is_found_in_a_joined_one() -> None:
    """Its last column is described once more behind the pages, which no offset names."""
    last = between(written("b"), b"\x26\x08\x1c\x15" * 15)
    with pytest.raises(InputUnreadable, match="one after the other"):
        scan(written("a") + last)
    assert scan(last)[1] <= 2
