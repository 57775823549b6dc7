"""JSON Lines, plain or gzipped: one JSON object a line. A unit is some megabytes of whole lines.

A file has no footer, so a plan reads it once, to count its rows and to find its types. In a plain
file, a unit is a range of bytes. A gzip file can only be read from the start of a member. A file
with one member, as `gzip` writes it, is one unit: to reach a chunk in it, everything before the
chunk is decompressed. A file with many members (bgzip, concatenated files) has many units.

Blank lines are no rows. A line that is not a JSON object is a row whose `FAULT` says so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from headrace.formats.base import (
    FAULT,
    NOT_JSON,
    NOT_OBJECT,
    NOT_OF_TYPE,
    NOT_TEXT,
    NOT_UTF8,
    DamagedInput,
    Request,
    RowReader,
    Scan,
    Span,
)
from headrace.formats.json_types import (
    Kind,
    any_infinity,
    holds_infinity,
    is_json,
    storage_of,
    to_type,
)
from headrace.formats.lines import (
    gzip_blocks,
    gzip_units,
    not_blank,
    plain_blocks,
    plain_units,
    whole_lines,
)
from headrace.formats.streams import Streams
from headrace.formats.text_column import is_marked_text
from schemas.errors import InputUnreadable

NAME = "jsonl"
GZIP = "jsonl.gz"
GZIP_MAGIC = b"\x1f\x8b"
END_BYTES = 32 << 10
"""Chosen: bytes read at each end of a file to tell it from another."""
MAX_DEPTH = 100  # chosen: far deeper than real documents; the same wherever a line is parsed
SAMPLE_LINES = 1_000
"""Chosen: keys of this many lines are collected; one of the lines must be a JSON object."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """The format, see `headrace.formats.base.Format`."""

    def fingerprint(self, file: Any, size: int, where: str) -> bytes:
        file.seek(0)
        head = bytes(file.read(min(size, END_BYTES)))
        file.seek(max(0, size - END_BYTES))
        return head + bytes(file.read(END_BYTES))

    def scan(self, file: Any, size: int, request: Request) -> Scan:
        finger = self.fingerprint(file, size, request.where)
        is_gzip = finger.startswith(GZIP_MAGIC)
        found = Found(request)
        try:
            units = list((gzip_units if is_gzip else plain_units)(file, size, found.count))
        except DamagedInput as error:
            raise InputUnreadable(f"{request.where} is {error}") from error
        share = found.text_share()
        units = [unit._replace(text_bytes=int(unit.text_bytes * share)) for unit in units]
        return Scan(found.schema(), units, GZIP if is_gzip else NAME, finger, True, True)

    def open(self, file: Any, size: int) -> RowReader:
        file.seek(0)
        return JsonRows(file, size, bytes(file.read(2)) == GZIP_MAGIC)


class JsonRows:
    """An open JSON Lines file, see `headrace.formats.base.RowReader`."""

    rows: int | None = None

    def __init__(self, file: Any, size: int, is_gzip: bool) -> None:
        self._file = file
        self._size = size
        self._is_gzip = is_gzip
        self._streams: Streams[list[bytes]] = Streams(lambda lines, low, high: lines[low:high])

    def read(
        self, span: Span, columns: Sequence[str], types: Any = None, batch_rows: int = 8_192
    ) -> Iterator[Any]:
        names = list(dict.fromkeys(columns))
        pieces = self._streams.read(
            (span.start, batch_rows),
            partial(self._lines, span, batch_rows),
            span.skip,
            span.rows,
            keep=self._is_gzip,
        )
        return (_batch(lines, names, types) for lines in pieces)

    def close(self) -> None:
        self._streams.clear()
        self._file.close()

    def _lines(self, span: Span, batch_rows: int) -> Iterator[list[bytes]]:
        """Lines from the span's start on, in lists of at most `batch_rows`."""
        if self._is_gzip:
            blocks = gzip_blocks(self._file, span.start, self._size)
        else:
            blocks = plain_blocks(self._file, span.start, span.stop)
        for _, whole in whole_lines(blocks):
            lines = not_blank(whole)
            for low in range(0, len(lines), batch_rows):
                yield lines[low : low + batch_rows]


class Found:
    """What was found in a file's lines: types, and the share of text."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._sample: dict[str, Kind] = {}
        self._typed = {name: Kind() for name in dict.fromkeys((*request.typed, *request.text))}
        self._lines = self._objects = 0
        self._bytes = self._text_bytes = 0

    def count(self, whole: bytes) -> int:
        """Number of rows in whole lines; parses the first lines, and more while a type is open."""
        lines = not_blank(whole)
        if lines and self._lines < SAMPLE_LINES:
            self._look(lines[: SAMPLE_LINES - self._lines])
        self._lines += len(lines)
        wanted = [name for name in self._typed if self._is_open(name)]
        if wanted:
            rows = [row for row in map(parse_line, lines) if not isinstance(row, int)]
            for name in wanted:
                self._typed[name].see(value_at(row, name) for row in rows)
        return len(lines)

    def _is_open(self, name: str) -> bool:
        """Whether more lines must be looked at: of a text it is enough that one is a string."""
        return name in self._request.typed or "str" not in self._typed[name].seen

    def _look(self, lines: list[bytes]) -> None:
        rows = [row for row in map(parse_line, lines) if not isinstance(row, int)]
        if not rows and not self._objects:
            why = "it is one JSON array" if lines[0].lstrip()[:1] == b"[" else (
                f"none of its first {len(lines)} lines is a JSON object"
            )  # fmt: skip
            raise InputUnreadable(
                f"{self._request.where} is not JSON Lines: {why}; write one object a line"
            )
        self._objects += len(rows)
        for name in dict.fromkeys(name for row in rows for name in row):
            self._sample.setdefault(name, Kind()).see(row.get(name) for row in rows)
        self._bytes += sum(map(len, lines))
        texts = (value_at(row, name) for row in rows for name in self._request.text)
        self._text_bytes += sum(len(text) for text in texts if isinstance(text, str))

    def text_share(self) -> float:
        """Share of the lines' bytes that is text, 0 to 1."""
        return self._text_bytes / max(1, self._bytes)

    def schema(self) -> Any:
        """Every key that was seen; a path `a.b` that was asked for is a column of its own."""
        import pyarrow as pa

        kinds = self._sample | self._typed
        return pa.schema([kind.to_field(name) for name, kind in kinds.items()])


# -- lines to rows


def parse_line(line: bytes) -> dict[str, Any] | int:
    """The object in a line, or the code in `FAULT` that says why there is none."""
    try:
        text = line.decode()
        value = json.loads(text)
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError):
        return NOT_JSON
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        return NOT_JSON
    return value if isinstance(value, dict) else NOT_OBJECT


def _is_deep(value: Any) -> bool:
    """Whether it is nested deeper than MAX_DEPTH, which recursion may not follow everywhere."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def value_at(row: dict[str, Any], path: str) -> Any:
    """The value under that key, or that path; None where there is none."""
    if path in row or "." not in path:
        return row.get(path)
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _batch(
    lines: Sequence[bytes],
    names: Sequence[str],
    types: Any,
    unfit: Collection[int] = frozenset(),
) -> Any:
    """The columns of these lines; without types each is a text. `unfit` lines are no rows."""
    import pyarrow as pa

    parsed = [NOT_OF_TYPE if i in unfit else parse_line(x) for i, x in enumerate(lines)]
    faults = [row if isinstance(row, int) else 0 for row in parsed]
    rows = [{} if isinstance(row, int) else row for row in parsed]
    arrays = []
    for name in names:
        values = [value_at(row, name) for row in rows]
        field = types.field(name) if types is not None and name in types.names else None
        if field is None or is_marked_text(field):
            arrays.append(_texts(values, faults))
            continue
        array, bad = _typed(values, field.type)
        if array is not None and any_infinity(array):
            # 1e400 becomes one; a line that spells it means it
            bad = {i for i, v in enumerate(values)
                   if b"Infinity" not in lines[i] and holds_infinity(v)}  # fmt: skip
        if bad:  # the whole line is faulty: all its columns are null
            return _batch(lines, names, types, {*unfit, *bad})
        arrays.append(array)
    return pa.RecordBatch.from_arrays([*arrays, pa.array(faults, pa.int8())], names=[*names, FAULT])


def _texts(values: list[Any], faults: list[int]) -> Any:
    """A column of strings, valid UTF-8 or not; a value that is no string becomes null and a fault."""
    import pyarrow as pa

    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            values[row] = None
            faults[row] = faults[row] or NOT_TEXT
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair: the row's text is not valid, see as_bytes
        raw = [None if v is None else v.encode("utf-8", "surrogatepass") for v in values]
        held = pa.array(raw, pa.binary())
        return pa.Array.from_buffers(pa.string(), len(held), held.buffers(), held.null_count)


def _typed(values: list[Any], wanted: Any) -> tuple[Any, set[int]]:
    """The values as a column, and the rows whose value does not fit."""
    import pyarrow as pa

    storage = storage_of(wanted)
    if storage != wanted:
        try:
            values = [to_type(value, wanted) for value in values]
        except ValueError:
            return None, {i for i, value in enumerate(values) if not _is_writable(value, wanted)}
    try:
        array = pa.array(values, storage)
    except (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError):
        bad = {row for row, value in enumerate(values) if not _fits(value, storage)}
        if not bad:
            raise
        return None, bad
    if is_json(wanted):
        return pa.ExtensionArray.from_storage(wanted, array), set()
    return array, set()


def _is_writable(value: Any, wanted: Any) -> bool:
    """Whether what is kept as JSON text is JSON."""
    try:
        to_type(value, wanted)
    except ValueError:
        return False
    return True


def _fits(value: Any, wanted: Any) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], wanted)
    except (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return False
    return True
