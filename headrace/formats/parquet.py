"""Parquet: planned from footers, read by row groups; a unit is a row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from headrace.formats.base import Request, RowReader, Scan, Span, Unit
from headrace.formats.streams import Streams
from headrace.formats.text_column import column_at, conform
from headrace.formats.thrift_footer import FooterError, FooterSizes, column_sizes
from schemas.errors import InputUnreadable

NAME = "parquet"
MAGIC = b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAGIC_ENCRYPTED = b"PARE"
TAIL_BYTES = 64 << 10
"""Chosen: one read gets the footer of a typical file; a larger footer needs a second read."""
MAX_FOOTER_BYTES = 256 << 20
"""Chosen: the footer of 100,000 row groups of 20 columns; past it a file is refused."""
REPEATED_BYTES = 16
"""Measured: a description that is repeated is 3 to 6 bytes longer than the first, by 18 writers."""
WHOLE_BYTES = 16 << 20  # chosen: the memory of a window and the part is about as much
PIECE_BYTES = 8 << 20  # measured: 300 MB of text in 0.5 s and 70 MB, against 2.1 s and 336 MB whole


class Parquet:
    """The format, see `headrace.formats.base.Format`."""

    def fingerprint(self, file: Any, size: int, where: str) -> bytes:
        """The footer's bytes, as they are in the file."""
        return footer_bytes(file, size, where)

    def scan(self, file: Any, size: int, request: Request) -> Scan:
        footer = footer_bytes(file, size, request.where)
        metadata, schema = _parse(footer, request.where)
        sizes = _sizes(footer, request)
        _check_begins_at_0(file, size, len(footer), sizes, request.where)
        units = _units(metadata, sizes, size, request.where)
        return Scan(schema, units, NAME, footer, needs_types=_has_int96(metadata, request.typed))

    def open(self, file: Any, size: int) -> RowReader:
        return ParquetRows(file)


class ParquetRows:
    """An open Parquet file, see `headrace.formats.base.RowReader`."""

    def __init__(self, file: Any) -> None:
        import pyarrow.parquet as pq

        self._file = file
        self._metadata = pq.ParquetFile(file).metadata
        self._streams: Streams[Any] = Streams(_cut)
        self.rows: int | None = self._metadata.num_rows

    def read(
        self, span: Span, columns: Sequence[str], types: Any = None, batch_rows: int = 8_192
    ) -> Iterator[Any]:
        names = list(dict.fromkeys(columns))
        whole = self._stored(span, names) <= WHOLE_BYTES
        skip = span.skip if span.skip >= 0 else self._skip(span)
        # a stream reads a large row group once, and need not hold all of it
        return self._streams.read(
            (span.start, span.stop, tuple(names), types, batch_rows),
            partial(self._batches, span, names, types, batch_rows, whole),
            skip,
            span.rows,
            keep=not whole,
        )

    def close(self) -> None:
        self._streams.clear()
        self._file.close()

    def _batches(
        self, span: Span, names: list[str], types: Any, batch_rows: int, whole: bool
    ) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A reader of its own for each stream: the state of one is not thread-safe. A file of
        # one giant row group is split into many chunks, and none of them may hold all of it: with
        # pre_buffer a row group's columns are fetched whole, at once.
        reader = pq.ParquetFile(
            self._file,
            metadata=self._metadata,
            pre_buffer=whole,
            buffer_size=0 if whole else PIECE_BYTES,
            # timestamps of Spark: planned as microseconds, Spark's own unit
            coerce_int96_timestamp_unit=None if types is None else "us",
            # costs nothing that can be measured; without it a flipped bit is a text like any other
            page_checksum_verification=True,
        )
        for batch in reader.iter_batches(
            batch_rows,
            row_groups=list(range(span.start, span.stop)),
            columns=names,
            use_threads=False,
        ):
            arrays = [column_at(batch, name) for name in names]
            if types is not None:
                arrays = [
                    conform(array, types.field(name).type) if name in types.names else array
                    for array, name in zip(arrays, names, strict=True)
                ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)

    def _skip(self, span: Span) -> int:
        before = (self._metadata.row_group(g).num_rows for g in range(span.start))
        return int(span.first_row - sum(before))

    def _stored(self, span: Span, names: Sequence[str]) -> int:
        """Bytes in the file of the span's row groups, in these columns."""
        tops = {*names, *(name.split(".")[0] for name in names)}
        schema = self._metadata.schema
        paths = [schema.column(i).path for i in range(len(schema))]
        # pyarrow ends the process when it is asked for the sizes of an encrypted column
        wanted = [i for i, p in enumerate(paths) if p in tops or p.split(".")[0] in tops]
        return sum(
            group.column(i).total_compressed_size
            for group in map(self._metadata.row_group, range(span.start, span.stop))
            for i in wanted
        )


def _cut(batch: Any, low: int, high: int) -> Any:
    return batch.slice(low, high - low)


def footer_bytes(file: Any, size: int, where: str) -> bytes:
    """The footer of an open file; one read if it is no larger than `TAIL_BYTES`.

    Raises:
        InputUnreadable: not Parquet, cut short, or encrypted: the message says which.
    """
    if size < 12:
        raise InputUnreadable(f"{where} is not Parquet: it has {size} bytes")
    tail = _read_at(file, max(0, size - TAIL_BYTES), size)
    if tail[-4:] == MAGIC_ENCRYPTED:
        raise InputUnreadable(
            f"{where} is encrypted: its footer needs a key, and headrace has none"
        )
    if tail[-4:] != MAGIC:
        head = _read_at(file, 0, 4)
        if head in (MAGIC, MAGIC_ENCRYPTED):
            raise InputUnreadable(f"{where} is cut short: it begins as Parquet and has no footer")
        raise InputUnreadable(f"{where} is not Parquet: it neither begins nor ends with PAR1")
    length = int.from_bytes(tail[-8:-4], "little")
    if length > size - 12 or length > MAX_FOOTER_BYTES:
        raise InputUnreadable(
            f"{where} is cut short or damaged: its footer claims {length} of {size} bytes"
        )
    if length + 8 > len(tail):
        tail = _read_at(file, size - 8 - length, size)
    return bytes(tail[-8 - length : -8])


def _read_at(file: Any, start: int, stop: int) -> bytes:
    file.seek(start)
    return bytes(file.read(stop - start))


def _has_int96(metadata: Any, columns: Sequence[str]) -> bool:
    """Whether one of the columns is, or holds, an INT96 timestamp."""
    leaves = map(metadata.schema.column, range(len(metadata.schema)))
    tops = {c.path.split(".")[0] for c in leaves if c.physical_type == "INT96"}
    return bool(tops & {name.split(".")[0] for name in columns})


def _parse(footer: bytes, where: str) -> tuple[Any, Any]:
    """The footer's metadata and the Arrow schema, INT96 timestamps in microseconds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a file that is only a footer: the offsets in it are not used here
    whole = MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC
    try:
        source = pa.BufferReader(whole)
        reader = pq.ParquetFile(source, coerce_int96_timestamp_unit="us", pre_buffer=False)
        metadata, schema = reader.metadata, reader.schema_arrow
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
        raise InputUnreadable(f"{where} is damaged: its footer cannot be read: {error}") from error
    groups = range(metadata.num_row_groups)
    if sum(metadata.row_group(g).num_rows for g in groups) != metadata.num_rows:
        raise InputUnreadable(f"{where} is damaged: its row groups do not add up to its rows")
    return metadata, schema


def _sizes(footer: bytes, request: Request) -> FooterSizes:
    where = request.where
    try:
        sizes = column_sizes(footer, request.text, {n.split(".")[0] for n in request.typed})
    except FooterError as error:
        raise InputUnreadable(f"{where} is damaged: its footer cannot be read: {error}") from error
    if sizes.encrypted:
        raise InputUnreadable(f"{where} is encrypted: one of its columns that are read needs a key")
    return sizes


def _check_begins_at_0(file: Any, size: int, footer: int, sizes: FooterSizes, where: str) -> None:
    """Refuse files put one after the other, of which the footer at the end describes the last.

    Its offsets count from where that file began, so that readers take bytes of another one, or
    end with an error. Only what the footer does not account for is looked at: nothing to read
    in files of today's writers.
    """
    before = 0 if sizes.end is None else size - 8 - footer - sizes.end
    if before <= sizes.longest + REPEATED_BYTES:
        if before > 0:
            _check_head(_read_at(file, 0, len(BYTE_ORDER_MARK) + len(MAGIC)), where)
        return
    # an older writer's last column is described twice: then the file began a little earlier
    start = max(0, before - sizes.longest - REPEATED_BYTES)
    found = _read_at(file, start, before + len(MAGIC))
    if 2 * MAGIC in found or found.endswith(MAGIC):
        raise InputUnreadable(
            f"{where} is several files, one after the other (`cat` makes such a file): its footer "
            f"describes only the last one, which begins at byte {before:,}, and readers would take rows "
            "of another one for its own. Give the files one by one, or a folder of them"
        )


def _check_head(head: bytes, where: str) -> None:
    if not head.startswith(MAGIC):
        mark = "a byte order mark" if head == BYTE_ORDER_MARK + MAGIC else "something"
        raise InputUnreadable(
            f"{where} has {mark} before its first byte: a program that writes text put it there, so "
            "that no reader finds its columns; copy the file again as bytes"
        )


def _units(metadata: Any, sizes: FooterSizes, size: int, where: str) -> list[Unit]:
    if len(sizes.row_groups) != metadata.num_row_groups:
        raise InputUnreadable(f"{where} is damaged: its footer contradicts itself")
    units: list[Unit] = []
    for number, columns in enumerate(sizes.row_groups):
        rows = metadata.row_group(number).num_rows
        text_bytes = sum(column.uncompressed for column in columns.values())
        if rows < 0 or any(min(column) < 0 for column in columns.values()):
            raise InputUnreadable(f"{where} is damaged: row group {number} has a negative size")
        if any(c.start + c.compressed > size for c in columns.values()):
            raise InputUnreadable(f"{where} is cut short: row group {number} is not all there")
        units.append(Unit(rows, text_bytes, number, number + 1))
    return units
