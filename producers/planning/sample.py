"""Rows sampled over the whole corpus: always the same rows, from a limited number of places.

A place is a unit of a file (a row group, a block of lines); its share of the sample is proportional
to its size. What is read of each place is limited, so that large units cost no more than small
ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from headrace.formats.base import Span
from headrace.formats.opener import OpenFile
from headrace.formats.text_column import as_bytes, plain_column
from producers.planning.chunking import FileRows, cut
from schemas.records.chunk import InputFile
from schemas.records.text_source import shown

PLACES = 16  # chosen: an object store answers this many reads in a second or two
READ_ROWS = 500_000  # chosen: of short texts some 50 MB are read, in about a second
BATCH_ROWS = 4_096
LONGEST_TEXT = 50_000
"""Characters. Chosen: more than any encoder reads of a row."""

Row = tuple[str, ...]
"""The row's texts, one for each column."""


@dataclass(frozen=True, slots=True)
class SampledUnit:
    """Rows to take from one unit: their numbers within it, ascending."""

    file: InputFile
    span: Span
    """The unit's rows up to the last that is wanted."""
    rows: tuple[int, ...]


def choose_rows(
    files: Iterable[FileRows], total: int, wanted: int, seed: str, limit: int | None = None
) -> Iterator[SampledUnit]:
    """Places for about `wanted` of `total` rows: spread evenly over the corpus, random within a
    place.

    `files` is read twice. `limit` cuts the corpus as the job's does. Pure: the same arguments
    choose the same rows.
    """
    chance = random.Random(seed)
    mean = total / max(1, sum(len(found.units) for found in files))
    count = min(total, wanted, max(PLACES, ceil(wanted / max(1.0, mean))))
    spots = [int((i + chance.random()) * total / count) for i in range(count)]
    row = 0
    for found in files:
        left = None if limit is None else limit - row
        if not spots or (left is not None and left <= 0):
            return
        first = row
        for unit in found.units if left is None else cut(found.units, left):
            here = sum(row <= spot < row + unit.rows for spot in spots)
            row += unit.rows
            if here:
                spots = spots[here:]
                most = min(unit.rows, READ_ROWS * here // count)
                rows = sorted(chance.sample(range(most), min(most, ceil(wanted * here / count))))
                span = Span.of_unit(unit, row - unit.rows - first, rows[-1] + 1 if rows else 0)
                yield SampledUnit(found.file, span, tuple(rows))


def read_rows(
    places: Iterable[SampledUnit], columns: Sequence[str], open_file: OpenFile
) -> Iterator[Row]:
    """The texts at these places; rows with a text that is null or not UTF-8 are left out.

    Raises:
        InputUnreadable: a file that cannot be read as what it was planned as.
        StorageError: the store does not answer.
    """
    import pyarrow as pa

    from schemas.errors import InputUnreadable

    for place in places:
        try:
            reader = open_file(place.file)
            batches = reader.read(place.span, columns, batch_rows=BATCH_ROWS)
            yield from _taken(batches, place.rows, columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            where = f"{place.file.uri}: column {shown(columns[0])!r}"
            raise InputUnreadable(f"{where}: {error}") from error


def _taken(batches: Iterator[Any], rows: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
    start = at = 0
    for batch in batches:
        stop = at
        while stop < len(rows) and rows[stop] < start + batch.num_rows:
            stop += 1
        if stop > at:
            texts = [as_bytes(plain_column(batch, name)) for name in columns]
            taken = (tuple(column[row - start] for column in texts) for row in rows[at:stop])
            yield from filter(None, map(_decoded, taken))
        start, at = start + batch.num_rows, stop
        if at == len(rows):
            return


def _decoded(texts: tuple[bytes | None, ...]) -> Row | None:
    try:
        return tuple(t.decode()[:LONGEST_TEXT] for t in texts)  # type: ignore[union-attr]
    except (AttributeError, UnicodeDecodeError):
        return None
