"""Counts duplicate and null ids of a corpus; reads only the id column, up to a limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from headrace.formats.base import Span
from headrace.formats.opener import OpenFile
from headrace.formats.text_column import plain_column
from producers.planning.chunking import FileRows, cut

MAX_ROWS = 5_000_000
"""Chosen: ids of 40 bytes then take some 400 MB and ten seconds."""
BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class IdReport:
    """What is known about the ids; `checked` is False if they were not read, for `reason`."""

    checked: bool
    rows: int
    duplicates: int = 0
    """Rows with the id of an earlier row."""
    nulls: int = 0
    reason: str = ""

    def warnings(self, column: str) -> list[str]:
        """Warnings for people, as sentences."""
        if not self.checked:
            return [f"ids in {column!r} were not checked for duplicates: {self.reason}"]
        told = []
        if self.duplicates:
            told.append(
                f"{self.duplicates:,} of {self.rows:,} rows have an id in {column!r} that an "
                "earlier row has; each row is scored all the same"
            )
        if self.nulls:
            told.append(f"{self.nulls:,} of {self.rows:,} rows have no id in {column!r}")
        return told


def check_ids(
    files: Iterable[FileRows],
    column: str,
    rows: int,
    open_file: OpenFile,
    limit: int | None = None,
    most: int = MAX_ROWS,
    types: Any = None,
) -> IdReport:
    """Count duplicate and null ids. `types` are the planned ones, see `RowReader.read`.

    Raises:
        InputUnreadable: a file that cannot be read as what it was planned as.
        StorageError: the store does not answer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows > most:
        return IdReport(False, rows, reason=f"{rows:,} rows; up to {most:,} are")
    arrays = list(_arrays(files, column, open_file, types, limit))
    if not arrays:
        return IdReport(True, 0)
    ids = pa.chunked_array(arrays)
    try:
        distinct = pc.count_distinct(ids, mode="only_valid").as_py()
    except pa.ArrowNotImplementedError:
        return IdReport(False, rows, reason=f"values of type {ids.type} cannot be compared")
    nulls = ids.null_count
    return IdReport(True, len(ids), len(ids) - nulls - distinct, nulls)


def _arrays(
    files: Iterable[FileRows], column: str, open_file: OpenFile, types: Any, limit: int | None
) -> Iterator[Any]:
    import pyarrow as pa

    from schemas.errors import InputUnreadable

    left = limit
    for found in files:
        units = found.units if left is None else cut(found.units, left)
        rows = sum(unit.rows for unit in units)
        if not rows:
            continue
        span = Span(units[0].start, units[-1].stop, units[0].lead, 0, rows)
        try:
            for batch in open_file(found.file).read(span, [column], types, BATCH_ROWS):
                yield plain_column(batch, column)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputUnreadable(f"{found.file.uri}: column {column!r}: {error}") from error
        left = None if left is None else left - rows
