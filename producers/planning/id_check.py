"""Are the ids of a corpus distinct? Counted over the id column alone, up to a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from producers.planning.chunking import FileRows, cut

MAX_ROWS = 5_000_000
"""Chosen: ids of 40 bytes then take some 400 MB and ten seconds."""


@dataclass(frozen=True, slots=True)
class IdReport:
    """What is known of the ids; `checked` is False where nobody looked, and `reason` says why."""

    checked: bool
    rows: int
    duplicates: int = 0
    """Rows whose id an earlier row has."""
    nulls: int = 0
    reason: str = ""

    def warnings(self, column: str) -> list[str]:
        """What a person should be told, in sentences."""
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
    open_file: Callable[[str], Any],
    limit: int | None = None,
    most: int = MAX_ROWS,
) -> IdReport:
    """Count duplicate and null ids; `open_file` opens an input file by its URI.

    Raises:
        InputUnreadable: a file that cannot be read as what its footer says.
        StorageError: the store does not answer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows > most:
        return IdReport(False, rows, reason=f"{rows:,} rows; up to {most:,} are")
    arrays = list(_arrays(files, column, open_file, limit))
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
    files: Iterable[FileRows], column: str, open_file: Callable[[str], Any], limit: int | None
) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.errors import InputUnreadable

    left = limit
    for found in files:
        groups = found.row_groups if left is None else cut(found.row_groups, left)
        rows = sum(g.rows for g in groups)
        try:
            with open_file(found.file.uri) as file:
                reader = pq.ParquetFile(file, pre_buffer=True)
                table = reader.read_row_groups(list(range(len(groups))), columns=[column])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputUnreadable(f"{found.file.uri}: column {column!r}: {error}") from error
        for array in table.column(column).slice(0, rows).chunks:
            yield array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        left = None if left is None else left - rows
