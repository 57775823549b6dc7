"""The port to a place that keeps objects by name: a folder, or a bucket's prefix.

Names are relative, with `/` between parts, and never climb (`..`), start with `/` or hold NUL.
What makes a store fit for headrace is `create`: of any number of callers, exactly one wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PARALLEL_READS = 16
"""Threads for many small reads. Chosen: they wait for the network, not for the CPU."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without reading it."""

    name: str
    size: int
    etag: str
    """Changes when the content changes. S3: its ETag; a disk: `mtime_ns-size`."""
    modified_s: float
    """Seconds since the epoch."""


class Store(Protocol):
    """A place that keeps objects; safe for threads.

    Every method raises `StorageError` (or `DiskFull`) once its retries are used up, and
    `OutputNotWritable` / `InputUnreadable` when rights are missing.
    """

    uri: str
    """Without credentials."""
    is_local: bool
    """Its objects are files of this host: `uri` is their folder."""
    has_etag: bool
    """Its etags name the content; else they are made of time and size, which a copy may keep."""

    def head(self, name: str) -> ObjectInfo | None:
        """What is known of the object; None when there is none."""

    def read(self, name: str) -> bytes | None:
        """The whole object; None when there is none."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose name starts with the prefix, folders walked, in order of name."""

    def create(self, name: str, data: bytes) -> bool:
        """True when this call made the object, False when it was there already."""

    def create_from_file(self, name: str, path: Path) -> bool:
        """As `create`, from a local file; on a disk the file is linked into place and kept."""

    def replace(self, name: str, data: bytes) -> None:
        """Make or overwrite the object, as a whole."""

    def delete(self, name: str) -> None:
        """Take the object away; no error when there is none."""

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` to read at random. Raises FileNotFoundError when there is none."""

    def scratch(self) -> Path:
        """A local folder to build a file in; on a disk it lies on the same file system."""

    def clean_orphans(self) -> tuple[str, ...]:
        """Remove what unfinished writes left, and name it. Only while nobody writes."""
