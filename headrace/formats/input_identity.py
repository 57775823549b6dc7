"""An input file's identity: what the planner writes down and the worker checks before it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headrace.storage.store import ObjectInfo, Store
from schemas.errors import InputUnreadable
from schemas.records.chunk import InputFile

MAGIC = b"PAR1"
MAGIC_ENCRYPTED = b"PARE"
TAIL_BYTES = 64 << 10
"""Chosen: the footer of a usual file in one read; a larger one takes a second."""
MAX_FOOTER_BYTES = 256 << 20
"""Chosen: the footer of 100,000 row groups of 20 columns; past it a file is refused."""


@dataclass(frozen=True, slots=True)
class Footer:
    """The end of a Parquet file: `data` are the footer's bytes, as they lie in the file."""

    size: int
    etag: str
    data: bytes


def etag_of(store: Store, name: str) -> tuple[int, str] | None:
    """Size and etag of an input file as it is now; None when there is none.

    On S3 one HEAD; on a disk a stat and a read of the footer. A disk's etag is
    `mtime_ns-size-` and the first 16 hex digits of the footer's sha256: a file that was replaced
    by one of the same size within the clock's grain still shows.

    Raises:
        InputUnreadable: a file on a disk that is no longer Parquet, or no rights.
        StorageError: the store does not answer.
    """
    info = store.head(name)
    if info is None:
        return None
    if store.has_etag:
        return info.size, info.etag
    footer = read_footer(store, info)
    return footer.size, footer.etag


def read_footer(store: Store, info: ObjectInfo) -> Footer:
    """The footer and identity of a listed file; one read where the footer is of usual size.

    Raises:
        InputUnreadable: not Parquet, cut short, or encrypted: the message says which.
        StorageError: the store does not answer.
    """
    where = f"{store.uri.rstrip('/')}/{info.name}"
    try:
        with store.open(info.name) as file:
            data = _footer_bytes(file, info.size, where)
    except FileNotFoundError as error:
        raise InputUnreadable(f"{where} went away while it was being read") from error
    if store.has_etag:
        return Footer(info.size, info.etag, data)
    return Footer(info.size, f"{info.etag}-{hashlib.sha256(data).hexdigest()[:16]}", data)


def _footer_bytes(file: Any, size: int, where: str) -> bytes:
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


def files_digest(files: Iterable[InputFile]) -> str:
    """64 hex digits over URI, size and etag of the files, in order."""
    digest = hashlib.sha256()
    for file in files:
        add_to_digest(digest, file)
    return digest.hexdigest()


def add_to_digest(digest: Any, file: InputFile) -> None:
    """Add one file to the digest that names a corpus."""
    # NUL stands in no URI and no etag: no file can look like another
    digest.update(f"{file.uri}\0{file.size}\0{file.etag}\n".encode("utf-8", "surrogatepass"))
