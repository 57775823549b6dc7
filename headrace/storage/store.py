"""The port to a store of objects by name: a folder, or a bucket's prefix.

Names are relative, with `/` between parts. They never contain `..` or NUL and never start with `/`.
headrace relies on `create`: of any number of callers, exactly one wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PARALLEL_READS = 16
"""Threads for many small reads. Chosen: the threads wait for the network, not for the CPU."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about an object without reading it."""

    name: str
    size: int
    etag: str
    """Changes when the content changes. S3: its ETag; a disk: `mtime_ns-size`."""
    modified_s: float
    """Seconds since the epoch."""


class Store(Protocol):
    """A store of objects; thread-safe.

    Every method raises `StorageError` (or `DiskFull`) when its retries are used up, and
    `OutputNotWritable` / `InputUnreadable` when permissions are missing.
    """

    uri: str
    """Without credentials."""
    is_local: bool
    """Whether its objects are files of this host; then `uri` is their folder."""
    has_etag: bool
    """Whether etags identify the content; otherwise they are time and size, which a copy may keep."""

    def head(self, name: str) -> ObjectInfo | None:
        """The object's metadata; None if there is no object."""

    def read(self, name: str) -> bytes | None:
        """The whole object; None if there is none."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose name starts with the prefix, also in subfolders, in order of name."""

    def create(self, name: str, data: bytes) -> bool:
        """True if this call made the object, False if it existed already."""

    def create_from_file(self, name: str, path: Path) -> bool:
        """As `create`, from a local file; on a local disk the file is linked into place and kept."""

    def replace(self, name: str, data: bytes) -> None:
        """Create or replace the whole object."""

    def delete(self, name: str) -> None:
        """Delete the object; no error if there is none."""

    def open(self, name: str, known: ObjectInfo | None = None) -> Any:
        """A `pyarrow.NativeFile` with random access.

        With `known`, a store with etags asks nothing now: a read raises InputChanged if the object
        is another one or gone.

        Raises:
            FileNotFoundError: there is no object, and none is known.
        """

    def scratch(self) -> Path:
        """A local folder to build a file in; for a store on disk, on the same file system."""

    def clean_orphans(self) -> tuple[str, ...]:
        """Remove what unfinished writes left; returns the names. Call only while no process writes."""
