"""A chunk: a slice of one input file, as an address. Never the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the corpus as it was when the job was planned."""

    uri: str
    size: int
    etag: str
    """S3: the ETag; a disk: `mtime_ns-size-sha256 of the footer`."""
    partitions: tuple[tuple[str, str], ...] = ()
    """Hive partition columns and their values, from the path."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `first_row … first_row + rows` of a file; they lie in the row groups named."""

    number: int
    file: InputFile
    row_group_start: int
    row_group_stop: int
    first_row: int
    """Row number within the file."""
    rows: int
    bytes: int
    """Uncompressed bytes of the text column, an estimate."""
    job_row: int
    """Row number of the first row within the whole job."""
