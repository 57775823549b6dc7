"""Units of a made-up Parquet file: row groups of so many rows and bytes of text."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.formats.base import Unit


def row_groups(*sizes: tuple[int, int]) -> list[Unit]:
    """A unit for each pair of rows and text bytes, numbered from 0."""
    return [Unit(rows, size, n, n + 1) for n, (rows, size) in enumerate(sizes)]


def of_rows(rows: Iterable[int]) -> list[Unit]:
    """A unit for each number of rows, with a byte of text each."""
    return row_groups(*((n, n) for n in rows))
