"""The files of a corpus scanned in parallel and in order: of Parquet footers, never whole files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from headrace.formats.base import Request, Scan
from headrace.formats.opener import scan_file
from producers.planning.chunking import FileRows
from producers.planning.columns import ColumnRequest
from producers.planning.discovery import Found
from schemas.records.chunk import InputFile

THREADS = 32
"""Chosen: 32 reads of 30 ms each are a thousand footers per second; a disk is busy with fewer."""
_AHEAD = 2 * THREADS

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Scanned:
    """One file of the corpus after it was scanned."""

    rows: FileRows
    scan: Scan

    @property
    def uri(self) -> str:
        return self.rows.file.uri

    @property
    def partitions(self) -> dict[str, str | None]:
        return dict(self.rows.file.partitions)


def scan(found: Iterable[Found], wanted: ColumnRequest) -> Iterator[Scanned]:
    """The files with their schemas and units, in the order given, a few ahead.

    Raises:
        InputUnreadable: no format that is read, cut short, or encrypted: names file and which.
    """
    return in_order(lambda f: read_file(f, wanted), found)


def read_file(found: Found, wanted: ColumnRequest) -> Scanned:
    """One file, scanned and understood."""
    texts = tuple(name for name in (wanted.text, wanted.pair) if name)
    typed = tuple(name for name in (wanted.id, *wanted.carried) if name)
    result = scan_file(found.store, found.info, Request(found.uri, texts, typed))
    own = set(result.scan.schema.names)
    if result.scan.is_loose:  # a wanted column that no line has may well come from the path
        own -= {f.name for f in result.scan.schema if str(f.type) == "null"}
    file = InputFile(
        uri=found.uri,
        size=result.size,
        etag=result.etag,
        # a column in the file comes before one in the path
        partitions=tuple(pair for pair in found.partitions if pair[0] not in own),
        format=result.scan.format,
    )
    return Scanned(FileRows(file, result.scan.units), result.scan)


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
