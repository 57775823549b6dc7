"""Rows drawn from all over a corpus: the same ones each time, from a bounded number of places.

A place is a row group; it holds as many of the wanted rows as its size deserves. What is read of
one is bounded, so that a corpus of large row groups costs no more than one of small ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from headrace.formats.text_column import as_bytes, plain_column
from producers.planning.chunking import FileRows, cut

PLACES = (
    16  # chosen: an object store answers that many reads in a second or two; more of small ones
)
READ_ROWS = 500_000  # chosen: of short texts some 50 MB are read, in about a second
BATCH_ROWS = 4_096
LONGEST_TEXT = 50_000
"""Letters. Chosen: more than any encoder reads of a row."""

Row = tuple[str, ...]
"""The row's texts, one for each column."""


@dataclass(frozen=True, slots=True)
class SampledRowGroup:
    """Rows to take of one row group: their numbers in it, rising."""

    uri: str
    row_group: int
    rows: tuple[int, ...]


def choose_rows(
    files: Iterable[FileRows], total: int, wanted: int, seed: str, limit: int | None = None
) -> Iterator[SampledRowGroup]:
    """Where to take about `wanted` rows of `total`: evenly over the corpus, by chance in a place.

    `files` is read twice. `limit` cuts the corpus as the job's does. Pure: the same arguments
    choose the same rows.
    """
    chance = random.Random(seed)
    mean = total / max(1, sum(len(found.row_groups) for found in files))
    count = min(total, wanted, max(PLACES, ceil(wanted / max(1.0, mean))))
    spots = [int((i + chance.random()) * total / count) for i in range(count)]
    row = 0
    for found in files:
        left = None if limit is None else limit - row
        if not spots or (left is not None and left <= 0):
            return
        for number, group in enumerate(
            found.row_groups if left is None else cut(found.row_groups, left)
        ):
            here = sum(row <= spot < row + group.rows for spot in spots)
            row += group.rows
            if here:
                spots = spots[here:]
                span = min(group.rows, READ_ROWS * here // count)
                rows = chance.sample(range(span), min(span, ceil(wanted * here / count)))
                yield SampledRowGroup(found.file.uri, number, tuple(sorted(rows)))


def read_rows(
    places: Iterable[SampledRowGroup], columns: Sequence[str], open_file: Callable[[str], Any]
) -> Iterator[Row]:
    """The texts at these places; rows with a text that is null or not UTF-8 are left out.

    Raises:
        InputUnreadable: a file that cannot be read as what its footer says.
        StorageError: the store does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.errors import InputUnreadable

    for place in places:
        try:
            with open_file(place.uri) as file:
                reader = pq.ParquetFile(file)
                batches = reader.iter_batches(
                    BATCH_ROWS, row_groups=[place.row_group], columns=list(dict.fromkeys(columns))
                )
                yield from _taken(batches, place.rows, columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputUnreadable(f"{place.uri}: column {columns[0]!r}: {error}") from error


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
