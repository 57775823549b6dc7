"""Sizes of columns in a Parquet footer, read by hand.

pyarrow 26 ends the process (`terminate called after throwing parquet::ParquetException`) when it
is asked for a column of some damaged or encrypted footers: one in 4,000 with a few bytes changed.
A corpus comes from outside, so the few numbers that planning needs are parsed here, where damage
raises `FooterError`. Delete this when `RowGroupMetaData.column` raises instead.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md and
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

_BOOLS, _BYTE, _VARINTS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _MAP, _STRUCT, _UUID = (9, 10), 11, 12, 13
_MAX_DEPTH = 32  # chosen: Parquet's own structs are six deep


class FooterError(ValueError):
    """The bytes are not a Parquet footer."""


class ColumnSize(NamedTuple):
    """One column in one row group: where it starts in the file, and how large it is."""

    start: int
    compressed: int
    uncompressed: int


@dataclass(slots=True)
class FooterSizes:
    """The wanted columns of each row group, by dotted path."""

    row_groups: list[dict[str, ColumnSize]]
    encrypted: bool = False
    """A wanted column, a column read beside it, or one with a hidden name is encrypted."""
    end: int | None = 0
    """Where the last page, index or filter that the footer names ends; None: it does not say."""
    longest: int = 0
    """Bytes of the longest description of a column; older writers repeat it behind the column."""


def column_sizes(footer: bytes, wanted: Container[str], beside: Container[str] = ()) -> FooterSizes:
    """Sizes of these columns, from the footer; about 1 ms per 10 kB of footer.

    `beside` are top-level names of other columns that will be read; only whether they are encrypted
    is checked.

    Raises:
        FooterError: the bytes cannot be understood.
    """
    try:
        return _Walker(footer, wanted, beside).file()
    except (IndexError, OverflowError, UnicodeDecodeError) as error:
        raise FooterError("it ends early or makes no sense") from error


class _Walker:
    """Thrift's compact protocol from front to back; `at` is the next byte."""

    def __init__(self, data: bytes, wanted: Container[str], beside: Container[str] = ()) -> None:
        self.data = data
        self.at = 0
        self.wanted = wanted
        self.beside = beside
        self.encrypted = False
        self.ends: list[int] = []
        self.has_open_end = False
        self.longest = 0

    def file(self) -> FooterSizes:
        groups: list[dict[str, ColumnSize]] = []
        field = 0
        while header := self.byte():
            field = self.field(field, header)
            if field == 4 and header & 15 == 9:
                groups = [self.row_group() for _ in range(self.structs())]
            else:
                self.skip(header & 15)
        end = None if self.has_open_end else max(self.ends, default=0)
        return FooterSizes(groups, self.encrypted, end, self.longest)

    def row_group(self) -> dict[str, ColumnSize]:
        columns: dict[str, ColumnSize] = {}
        field = 0
        while header := self.byte():
            field = self.field(field, header)
            if field == 1 and header & 15 == 9:
                for _ in range(self.structs()):
                    self.column(columns)
            else:
                self.skip(header & 15)
        return columns

    def column(self, columns: dict[str, ColumnSize]) -> None:
        field = 0
        path: str | None = None
        hidden = False
        indexes = {4: -1, 5: 0, 6: -1, 7: 0}  # offset index and column index: start, length
        while header := self.byte():
            field = self.field(field, header)
            if field == 3 and header & 15 == _STRUCT:
                began = self.at
                path = self.column_metadata(columns)
                self.longest = max(self.longest, self.at - began)
            elif field in indexes and header & 15 in _VARINTS:
                indexes[field] = self.signed()
            else:
                hidden |= field in (8, 9)  # crypto_metadata, encrypted_column_metadata
                self.skip(header & 15)
        self.has_open_end |= path is None or hidden
        self.ends += (indexes[4] + indexes[5], indexes[6] + indexes[7])
        self.encrypted |= hidden and (
            path is None or path in self.wanted or path.split(".")[0] in self.beside
        )

    def column_metadata(self, columns: dict[str, ColumnSize]) -> str:
        path = ""
        # sizes, starts of pages, start and length of the Bloom filter
        numbers = {6: 0, 7: 0, 9: -1, 11: -1, 14: -1, 15: -1}
        field = 0
        while header := self.byte():
            field = self.field(field, header)
            if field == 3 and header & 15 == 9:
                path = ".".join(self.strings())
            elif field in numbers and header & 15 in (5, 6):
                numbers[field] = self.signed()
            else:
                self.skip(header & 15)
        start = min((offset for offset in (numbers[9], numbers[11]) if offset > 0), default=-1)
        if path in self.wanted:
            columns[path] = ColumnSize(start, numbers[7], numbers[6])
        self.ends += (start + numbers[7], numbers[14] + numbers[15])
        self.has_open_end |= numbers[14] >= 0 > numbers[15]  # older writers keep no length
        return path

    # -- the protocol

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def field(self, last: int, header: int) -> int:
        return last + (header >> 4) if header >> 4 else self.signed()

    def varint(self) -> int:
        value = self.byte()
        if value < 128:
            return value
        value &= 127
        for shift in range(7, 70, 7):
            more = self.byte()
            value |= (more & 127) << shift
            if more < 128:
                return value
        raise FooterError("a number is too long")

    def signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def sequence(self) -> tuple[int, int]:
        """Length and element type of a list; a length beyond the remaining bytes is refused."""
        header = self.byte()
        length = header >> 4 if header >> 4 != 15 else self.varint()
        if length > len(self.data) - self.at:
            raise FooterError("a list is longer than the footer")
        return length, header & 15

    def structs(self) -> int:
        length, kind = self.sequence()
        if length and kind != _STRUCT:
            raise FooterError("a list of structs holds something else")
        return length

    def strings(self) -> list[str]:
        length, kind = self.sequence()
        if length and kind != _BINARY:
            raise FooterError("a path is no list of names")
        return [self.binary().decode() for _ in range(length)]

    def binary(self) -> bytes:
        length = self.varint()
        start = self.at
        self.jump(length)
        return self.data[start : self.at]

    def jump(self, length: int) -> None:
        self.at += length
        if self.at > len(self.data):
            raise IndexError

    def skip(self, kind: int, depth: int = 0) -> None:
        """Skip a value; a boolean field has no bytes of its own."""
        if kind in _VARINTS:
            self.varint()
        elif kind == _BINARY:
            self.jump(self.varint())
        elif kind == _STRUCT:
            self._skip_struct(depth)
        elif kind in _LISTS:
            length, element = self.sequence()
            for _ in range(length):
                self._skip_element(element, depth)
        elif kind == _MAP:
            self._skip_map(depth)
        elif kind in (_BYTE, _DOUBLE, _UUID):
            self.jump({_BYTE: 1, _DOUBLE: 8, _UUID: 16}[kind])
        elif kind not in _BOOLS:
            raise FooterError(f"a field of type {kind}")

    def _skip_struct(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise FooterError("it is nested too deep")
        while header := self.byte():
            if not header >> 4:
                self.varint()
            self.skip(header & 15, depth + 1)

    def _skip_map(self, depth: int) -> None:
        length = self.varint()
        if not length:
            return
        kinds = self.byte()
        if length > len(self.data) - self.at:
            raise FooterError("a map is longer than the footer")
        for _ in range(length):
            self._skip_element(kinds >> 4, depth)
            self._skip_element(kinds & 15, depth)

    def _skip_element(self, kind: int, depth: int) -> None:
        """Skip an element of a list or map, where a boolean is one byte."""
        if depth > _MAX_DEPTH:
            raise FooterError("it is nested too deep")
        if kind in _BOOLS:
            self.jump(1)
        else:
            self.skip(kind, depth + 1)
