"""A chunk: a slice of one input file, as an address. Never the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the corpus as it was when the job was planned."""

    uri: str
    size: int
    etag: str
    """S3: the ETag; a disk: `mtime_ns-size-sha256 of the file's ends`."""
    partitions: tuple[tuple[str, str | None], ...] = ()
    """Hive partition columns and their values, from the path."""
    format: str = "parquet"
    """As in `headrace.formats.opener.FORMATS`."""
    content: str | None = None
    """sha256 of all its bytes, if the plan has it: it distinguishes a touched file from a changed one."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `first_row … first_row + rows` of a file, and where reading them begins and ends.

    `start` and `stop` are in the format's own measure: row groups of Parquet, bytes of JSON Lines.
    """

    number: int
    file: InputFile
    start: int
    stop: int
    skip: int
    """Rows from `start` on that come before; -1 in plans made before it was written down."""
    first_row: int
    """Row number within the file."""
    rows: int
    bytes: int
    """Uncompressed bytes of the text column, an estimate."""
    job_row: int
    """Row number of the first row within the whole job."""
