"""A chunk: a slice of an input file, or several small files, as an address. Never the text."""

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
    """As in `headrace.formats.catalog.FORMATS`."""
    content: str | None = None
    """sha256 of all its bytes, if the plan has it: it distinguishes a touched file from a changed one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `first_row … first_row + rows` of a file, and where reading them begins and ends.

    `start` and `stop` are in the format's own measure: row groups of Parquet, bytes of JSON Lines.
    """

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


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one file, or several small files one after another."""

    number: int
    pieces: tuple[Piece, ...]
    """One or more, in order."""
    job_row: int
    """Row number of the first row within the whole job."""

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def bytes(self) -> int:
        """Uncompressed bytes of the text column, an estimate."""
        return sum(piece.bytes for piece in self.pieces)

    def sources(self) -> list[tuple[str, int, int]]:
        """URI, first row within the file and rows of each piece: where the chunk's rows are from."""
        return [(piece.file.uri, piece.first_row, piece.rows) for piece in self.pieces]
