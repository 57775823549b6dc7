"""What Parquet footers say of a corpus, read in parallel and in order; never whole files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.formats.input_identity import (
    MAGIC,
    Footer,
    read_footer,
)
from headrace.formats.thrift_footer import FooterError, column_sizes
from producers.planning.chunking import FileRows, RowGroup
from producers.planning.discovery import Found
from schemas.errors import InputUnreadable
from schemas.records.chunk import InputFile

THREADS = 32
"""Chosen: 32 reads of 30 ms each are a thousand footers a second; a disk is busy with fewer."""
_AHEAD = 2 * THREADS

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file of the corpus after its footer was read."""

    rows: FileRows
    schema: Any
    """The file's `pyarrow.Schema`."""

    @property
    def uri(self) -> str:
        return self.rows.file.uri

    @property
    def partitions(self) -> dict[str, str]:
        return dict(self.rows.file.partitions)


def scan(found: Iterable[Found], text_columns: tuple[str, ...]) -> Iterator[Scanned]:
    """The files with their schemas and row groups, in the order given, a few ahead.

    Raises:
        InputUnreadable: not Parquet, cut short, or encrypted: the message names file and which.
    """
    return in_order(lambda f: read_file(f, text_columns), found)


def read_file(found: Found, text_columns: tuple[str, ...]) -> Scanned:
    """One file's footer, read and understood."""
    footer = read_footer(found.store, found.info)
    schema, groups = footer_rows(footer, text_columns, found.uri)
    own = set(schema.names)
    file = InputFile(
        uri=found.uri,
        size=footer.size,
        etag=footer.etag,
        # a column in the file comes before one in the path
        partitions=tuple(pair for pair in found.partitions if pair[0] not in own),
    )
    return Scanned(FileRows(file, groups), schema)


def footer_rows(
    footer: Footer, text_columns: tuple[str, ...], where: str
) -> tuple[Any, list[RowGroup]]:
    """The `pyarrow.Schema` in a footer, and its row groups.

    Raises:
        InputUnreadable: damaged, cut short, or encrypted.
    """
    metadata, schema = _parse(footer, where)
    return schema, _row_groups(metadata, footer, text_columns, where)


def _parse(footer: Footer, where: str) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # a file that is nothing but its footer: the offsets in it are not looked at here
    whole = MAGIC + footer.data + len(footer.data).to_bytes(4, "little") + MAGIC
    try:
        metadata = pq.read_metadata(pa.BufferReader(whole))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
        raise InputUnreadable(f"{where} is damaged: its footer cannot be read: {error}") from error
    groups = range(metadata.num_row_groups)
    if sum(metadata.row_group(g).num_rows for g in groups) != metadata.num_rows:
        raise InputUnreadable(f"{where} is damaged: its row groups do not add up to its rows")
    return metadata, schema


def _row_groups(
    metadata: Any, footer: Footer, text_columns: tuple[str, ...], where: str
) -> list[RowGroup]:
    try:
        sizes = column_sizes(footer.data, text_columns)
    except FooterError as error:
        raise InputUnreadable(f"{where} is damaged: its footer cannot be read: {error}") from error
    if sizes.encrypted:
        raise InputUnreadable(f"{where} is encrypted: its text column needs a key")
    if len(sizes.row_groups) != metadata.num_row_groups:
        raise InputUnreadable(f"{where} is damaged: its footer contradicts itself")
    groups: list[RowGroup] = []
    for number, columns in enumerate(sizes.row_groups):
        rows = metadata.row_group(number).num_rows
        text_bytes = sum(column.uncompressed for column in columns.values())
        if rows < 0 or any(min(column) < 0 for column in columns.values()):
            raise InputUnreadable(f"{where} is damaged: row group {number} has a negative size")
        if any(c.start + c.compressed > footer.size for c in columns.values()):
            raise InputUnreadable(f"{where} is cut short: row group {number} is not all there")
        groups.append(RowGroup(rows, text_bytes))
    return groups


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> Iterator[R]:
    """`map` on threads, results in order, a bounded number of items ahead of the reader."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="footers") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
