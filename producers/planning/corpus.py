"""Scans a corpus: lists its files, counts rows, checks columns; keeps nothing in memory.

Files are scanned in parallel and in order: of Parquet the footers, never whole files.

What planning needs later (identity and units of each file) is written to a temporary file on this
machine, so that ten thousand files take no more memory than ten.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from headrace.formats.base import Request, Scan, Unit
from headrace.formats.input_identity import add_to_digest
from headrace.formats.opener import scan_file
from headrace.process.numbers import plural
from headrace.storage.kept_objects import KeptObjects
from producers.planning.chunking import FileRows, cut
from producers.planning.columns import (
    ColumnRequest,
    ColumnTypes,
    TypesOfFiles,
    check_names,
    types_of_nothing,
)
from producers.planning.discovery import Found
from schemas.errors import InputNotFound
from schemas.records.chunk import InputFile

Progress = Callable[[int, int], None]
"""Called with the number of files and rows read so far."""


THREADS = 32
"""Chosen: 32 reads of 30 ms each are a thousand footers per second; a disk is busy with fewer."""
_AHEAD = 2 * THREADS

T = TypeVar("T")
R = TypeVar("R")


class Spool:
    """Files and their units, written once and read as often as wanted, in order."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="headrace-plan-")  # noqa: SIM115
        self._closed = weakref.finalize(self, self._file.close)

    def add(self, found: FileRows) -> None:
        file = found.file
        columns = list(zip(*found.units, strict=True))
        line = [file.uri, file.size, file.etag, file.partitions, file.format, columns]
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def __iter__(self) -> Iterator[FileRows]:
        self._file.flush()
        at = 0
        while True:
            self._file.seek(at)  # two readers may take turns
            line = self._file.readline()
            if not line:
                return
            at = self._file.tell()
            uri, size, etag, partitions, file_format, columns = json.loads(line)
            pairs = tuple((name, value) for name, value in partitions)
            file = InputFile(uri, size, etag, pairs, file_format)
            yield FileRows(file, list(map(Unit, *columns)))


@dataclass(frozen=True, slots=True)
class Corpus:
    """The result of a scan; `files` are those that have rows to score."""

    patterns: tuple[str, ...]
    types: ColumnTypes
    files: Iterable[FileRows]
    file_count: int
    file_bytes: int
    rows: int
    """Rows to score: after the limit."""
    text_bytes: int
    digest: str
    """Over URI, size and etag of `files`, in order."""
    empty_files: int = 0
    formats: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    """Columns in use that a file and its path both have, or nearly: one sentence each."""


def read_corpus(
    patterns: tuple[str, ...],
    found: Iterable[Found],
    wanted: ColumnRequest,
    limit: int | None = None,
    progress: Progress | None = None,
    *,
    allow_empty: bool = False,
    kept: KeptObjects | None = None,
) -> Corpus:
    """The corpus of these files; with a limit, only as many files as it takes are scanned.

    With `allow_empty` there may be no row: then the types come from an empty file.
    Small objects are added to `kept`.

    Raises:
        ColumnError: a wanted column is missing, not text, or collides with one of ours.
        SchemaMismatch: two files disagree about a wanted column.
        InputUnreadable: a file has no format that is read, is cut short, or encrypted.
        InputNotFound: no file has a row, and that is not allowed.
    """
    check_names(wanted)
    totals = _Totals(limit)
    spool = Spool()
    types = TypesOfFiles(wanted)
    schema = None
    overridden: dict[str, str] = {}
    alike: dict[tuple[str, str], str] = {}
    for file in scan(_until(found, lambda: totals.full), wanted, kept):
        # in a file without rows, a column may have any type
        if any(unit.rows for unit in file.rows.units):
            types.add(file.scan, file.partitions, file.uri)
        schema = schema or file.scan.schema
        for name in file.overridden:
            if name in wanted.in_files:
                overridden.setdefault(name, file.uri)
        for pair in file.alike:
            if set(pair).intersection(wanted.in_files):
                alike.setdefault(pair, file.uri)
        if totals.add(file.rows):
            spool.add(file.rows)
        if progress:
            progress(totals.files + totals.empty, totals.rows)
        if totals.full:
            break
    columns = types.result()
    if columns is None or not totals.rows:
        if not allow_empty:
            raise InputNotFound(_no_rows(patterns, totals.empty))
        columns = types_of_nothing(wanted, schema)
    return Corpus(
        patterns=patterns,
        types=columns,
        files=spool,
        file_count=totals.files,
        file_bytes=totals.file_bytes,
        rows=totals.rows,
        text_bytes=totals.text_bytes,
        digest=totals.digest.hexdigest(),
        empty_files=totals.empty,
        formats=tuple(sorted(totals.formats)),
        overridden=tuple(
            f"column {name!r} is in {where} and in its path: the file's value is taken"
            for name, where in overridden.items()
        )
        + tuple(
            f"{where} has column {own!r} and its path {name!r}: DuckDB and Spark take them for one; "
            f"here {own!r} is the file's and {name!r} the path's"
            for (name, own), where in alike.items()
        ),
    )


def _no_rows(patterns: tuple[str, ...], files: int) -> str:
    return (
        f"no rows in {', '.join(patterns)}: {plural(files, 'file')}, all empty; if a night may be "
        "empty, use --allow-empty"
    )


class _Totals:
    """Counts files up to the limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.files = self.empty = self.rows = self.text_bytes = self.file_bytes = 0
        self.digest: Any = hashlib.sha256()
        self.formats: set[str] = set()

    @property
    def full(self) -> bool:
        return self._limit is not None and self.rows >= self._limit

    def add(self, found: FileRows) -> bool:
        """Whether the file has rows that count."""
        units: Iterable[Unit] = found.units
        if self._limit is not None:
            units = cut(found.units, self._limit - self.rows)
        rows = sum(u.rows for u in units)
        if not rows:
            self.empty += 1
            return False
        self.files += 1
        self.formats.add(found.file.format.removesuffix(".gz"))
        self.rows += rows
        self.text_bytes += sum(u.text_bytes for u in units)
        self.file_bytes += found.file.size
        add_to_digest(self.digest, found.file)
        return True


def _until(found: Iterable[Found], enough: Callable[[], bool]) -> Iterator[Found]:
    """Stops listing when enough rows are there."""
    for file in found:
        if enough():
            return
        yield file


# -- file by file


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file of the corpus after it was scanned."""

    rows: FileRows
    scan: Scan
    overridden: tuple[str, ...] = ()
    """Partitions of its path that it has as columns too."""
    alike: tuple[tuple[str, str], ...] = ()
    """Partitions of its path, each with a column of its that differs in large letters only."""

    @property
    def uri(self) -> str:
        return self.rows.file.uri

    @property
    def partitions(self) -> dict[str, str | None]:
        return dict(self.rows.file.partitions)


def scan(
    found: Iterable[Found], wanted: ColumnRequest, kept: KeptObjects | None = None
) -> Iterator[Scanned]:
    """The files with their schemas and units, in the order given, a few ahead.

    Raises:
        InputUnreadable: no format that is read, cut short, or encrypted: names file and which.
    """
    return in_order(lambda f: read_file(f, wanted, kept), found)


def read_file(found: Found, wanted: ColumnRequest, kept: KeptObjects | None = None) -> Scanned:
    """One file, scanned and understood."""
    typed = tuple(name for name in (wanted.id, *wanted.carried) if name)
    result = scan_file(found.store, found.info, Request(found.uri, wanted.texts, typed), kept)
    own = set(result.scan.schema.names)
    if result.scan.is_loose:  # a wanted column that no line has may come from the path
        own -= {f.name for f in result.scan.schema if str(f.type) == "null"}
    file = InputFile(
        uri=found.uri,
        size=result.size,
        etag=result.etag,
        # a column in the file takes precedence over one in the path
        partitions=tuple(pair for pair in found.partitions if pair[0] not in own),
        format=result.scan.format,
    )
    twice = tuple(name for name, _ in found.partitions if name in own)
    alike = tuple(
        (name, column)
        for name, _ in file.partitions
        for column in own
        if column.casefold() == name.casefold() and column != name
    )
    return Scanned(FileRows(file, result.scan.units), result.scan, twice, alike)


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
