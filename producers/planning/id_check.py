"""Counts duplicate and null ids of a corpus; reads only the id column, up to a limit, in 8 bytes a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.formats.base import Span
from headrace.formats.opener import OpenFile
from headrace.formats.text_column import plain_column
from producers.planning.chunking import FileRows, cut

MAX_ROWS = 5_000_000
"""Chosen: their hashes then take 40 MB, and some seconds."""
BATCH_ROWS = 16_384


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
    if rows > most:
        return IdReport(False, rows, reason=f"{rows:,} rows; up to {most:,} are")
    found = _Distinct(rows)
    for array in _arrays(files, column, open_file, types, limit):
        if not found.add(array):
            return IdReport(False, rows, reason=f"values of type {array.type} cannot be compared")
    distinct = found.count()
    return IdReport(True, found.rows, found.rows - found.nulls - distinct, found.nulls)


class _Distinct:
    """Counts distinct values by eight bytes of each: an integer itself, the hash of text or bytes.

    Two texts that differ have one hash in one of a million corpora of five million rows; the hash has a
    key that each process draws. Values of other types are kept as they are.
    """

    def __init__(self, most: int) -> None:
        """`most` values will be added."""
        self.rows = self.nulls = 0
        self._hashes = np.empty(most, np.int64)
        self._hashed = 0
        self._others: list[Any] = []

    def add(self, array: Any) -> bool:
        """Note the values; False: values of their type cannot be compared."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.rows += len(array)
        self.nulls += array.null_count
        kind, kept = array.type, array.drop_null()
        if pa.types.is_integer(kind):
            self._put(kept.to_numpy(zero_copy_only=False).astype(np.int64, copy=False))
        elif _is_text(kind):
            self._put(np.fromiter(map(hash, kept.to_pylist()), np.int64, len(kept)))
        else:
            try:
                pc.count_distinct(array.slice(0, 1))
            except pa.ArrowNotImplementedError:
                return False
            self._others.append(array)
        return True

    def _put(self, values: np.ndarray) -> None:
        self._hashes[self._hashed : self._hashed + len(values)] = values
        self._hashed += len(values)

    def count(self) -> int:
        """The distinct values of all that was added."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = 0
        if self._others:
            others = pa.chunked_array(self._others)
            found = int(pc.count_distinct(others, mode="only_valid").as_py())
        values = self._hashes[: self._hashed]
        values.sort()
        found += int(np.count_nonzero(values[1:] != values[:-1])) + bool(len(values))
        return found


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    is_any = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )  # fmt: skip
    return any(it(kind) for it in is_any)


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
