"""The port to input formats: how a file is planned and read, whatever it is written in.

A file is cut into *units*, the places where reading can start: row groups of Parquet, blocks of
lines of JSON Lines. For each chunk, a plan says which units its rows are in (`start` to `stop`, in
the format's own measure) and how many rows of those units come before it (`skip`). The rest is up
to the format.

    Format.scan  →  Scan (schema, units)  →  plan  →  Span  →  RowReader.read  →  batches
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class DamagedInput(ValueError):
    """A file's bytes are not what its format says; the message holds no text of the corpus."""


class Unit(NamedTuple):
    """A piece of a file that reading can start with, and the next piece's start."""

    rows: int
    text_bytes: int
    """Uncompressed bytes of the text columns, or an estimate."""
    start: int
    """Parquet: number of the row group. JSON Lines: byte in the file."""
    stop: int
    lead: int = 0
    """Rows read from `start` on that belong to the unit before."""


class Span(NamedTuple):
    """Rows `skip … skip + rows` of what is read from `start` on."""

    start: int
    stop: int
    skip: int
    """-1: unknown, as in plans of earlier versions; then `first_row` counts."""
    first_row: int
    """Row number within the file."""
    rows: int

    @classmethod
    def of_unit(cls, unit: Unit, first_row: int, rows: int | None = None) -> Span:
        """The first `rows` rows of a unit, or all."""
        return cls(unit.start, unit.stop, unit.lead, first_row, unit.rows if rows is None else rows)


@dataclass(frozen=True, slots=True)
class Request:
    """What the planner asks about a file: its name for messages, and the columns that will be read."""

    where: str
    text: tuple[str, ...]
    typed: tuple[str, ...] = ()
    """Columns whose types must be known exactly: the id and the carried ones."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a plan needs of a file."""

    schema: Any
    """`pyarrow.Schema`: every column, as far as the format knows."""
    units: Sequence[Unit]
    format: str
    """The name under which `headrace.formats.catalog.FORMATS` reads the file."""
    fingerprint: bytes
    """Bytes that differ if the content differs; see `Format.fingerprint`."""
    is_loose: bool = False
    """Types were inferred from the values, so another file may widen them."""
    needs_types: bool = False
    """The reader must be given the planned types."""


class RowReader(Protocol):
    """An open input file. Thread-safe; closed by `close` or when it is forgotten."""

    @property
    def rows(self) -> int | None:
        """Number of rows of the file; None if the file would have to be read to count them."""

    def read(
        self, span: Span, columns: Sequence[str], types: Any = None, batch_rows: int = 8_192
    ) -> Iterator[Any]:
        """The rows of a span as `pyarrow.RecordBatch`es of at most `batch_rows` rows.

        A batch has the columns asked for, under the names asked for (`a.b` is field `b` of the
        struct `a`), with the types of `types` (a `pyarrow.Schema`) where it has them. A format
        that can have bad rows adds the column `FAULT`. Ends early where the file does.

        Raises:
            pyarrow.ArrowException, OSError, ValueError: the file is not what it was planned as.
        """

    def close(self) -> None: ...


class Format(Protocol):
    """A kind of input file. `file` is open to read at random: `seek`, `read`."""

    def fingerprint(self, file: Any, size: int, where: str) -> bytes:
        """Bytes from both ends of the file, which differ if the content differs; at most two reads.

        Raises:
            InputUnreadable: it is not a file of this format.
        """

    def scan(self, file: Any, size: int, request: Request) -> Scan:
        """What a plan needs of the file.

        Raises:
            InputUnreadable: not this format, cut short or encrypted: the message says which.
        """

    def open(self, file: Any, size: int) -> RowReader:
        """A reader of the file; it takes ownership of `file`."""


FAULT = "\0fault"
"""Name of the int8 column that says why a row has no text: 0 for no fault, else an index into FAULTS plus 1."""

FAULTS: tuple[tuple[str, str], ...] = (
    ("invalid_line", "the line is not valid JSON, or nested too deep"),
    ("invalid_line", "the line is not valid UTF-8"),
    ("invalid_line", "the line is not a JSON object"),
    ("invalid_line", "a value of the line is not of its column's type"),
    ("invalid_text", "the text is not a string"),
)
"""Error class and message of each fault. Messages never hold text of the corpus."""
NOT_JSON, NOT_UTF8, NOT_OBJECT, NOT_OF_TYPE, NOT_TEXT = range(1, len(FAULTS) + 1)
