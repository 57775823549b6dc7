"""From the row groups of a corpus to its chunks. Pure: numbers in, numbers out, as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from schemas.records.chunk import Chunk, InputFile

# Chosen: the work that a lost chunk may cost, long enough that reading and writing vanish in it.
CHUNK_S = 30.0
# Chosen: with eight chunks each, the last worker to finish idles the others for an eighth at most.
# With four, two workers on 20,000 short rows (seven chunks) were at 0.84 of two bare engines.
CHUNKS_A_WORKER = 8
MIN_ROWS = 256  # chosen: below it the price of a chunk (lease, open, commit) shows
MAX_ROWS = 100_000  # required: a part is checked and hashed as a whole
MAX_BYTES = 64 << 20  # required: a worker may have 400 MB above its model
BYTES_A_TOKEN = 4.0  # measured on English text with WordPiece: 3.9 to 4.6
# Chosen: a chunk that follows row groups may miss its target by as much.
SLACK = 0.25


class RowGroup(NamedTuple):
    """One row group of a file: its rows, and the uncompressed bytes of its text column."""

    rows: int
    text_bytes: int


class Target(NamedTuple):
    """What a chunk should hold: the row count and the bytes that fill it, whichever comes first."""

    rows: int
    bytes: int
    slack: float = SLACK
    """How far above the target a chunk may go to end with a row group; 0 where a person set it."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file and what its footer says of its rows."""

    file: InputFile
    row_groups: Sequence[RowGroup]


class Slice(NamedTuple):
    """Neighbouring rows of one file, and the row groups they lie in."""

    row_group_start: int
    row_group_stop: int
    first_row: int
    rows: int
    bytes: int


def target_chunk(
    rows: int,
    text_bytes: int,
    *,
    workers: int,
    tokens_per_s: float,
    chunk_rows: int | None = None,
    chunk_bytes: int | None = None,
) -> Target:
    """How large the chunks of a corpus should be; `tokens_per_s` is the speed of one worker.

    About 30 s of work, but at least eight chunks a worker where the corpus is small. What a person
    has set (`chunk_rows`, `chunk_bytes`) is kept as an upper bound, to the row.
    """
    if chunk_rows is not None or chunk_bytes is not None:
        return Target(chunk_rows or MAX_ROWS, chunk_bytes or 1 << 62, slack=0.0)
    wanted_bytes = CHUNK_S * tokens_per_s * BYTES_A_TOKEN
    mean = max(1.0, text_bytes / max(1, rows))
    wanted_rows = min(wanted_bytes / mean, ceil(rows / (CHUNKS_A_WORKER * max(1, workers))))
    return Target(
        rows=int(min(MAX_ROWS, max(MIN_ROWS, wanted_rows))),
        bytes=int(min(MAX_BYTES, max(MIN_ROWS * mean, wanted_bytes))),
    )


def plan(files: Iterable[FileRows], target: Target, limit: int | None = None) -> Iterator[Chunk]:
    """The chunks of the files, in order, never across two files; `limit` rows at most."""
    number = job_row = 0
    left = limit
    for found in files:
        if left is not None and left <= 0:
            return
        groups = found.row_groups if left is None else cut(found.row_groups, left)
        for part in slice_file(groups, target):
            yield Chunk(
                number=number,
                file=found.file,
                row_group_start=part.row_group_start,
                row_group_stop=part.row_group_stop,
                first_row=part.first_row,
                rows=part.rows,
                bytes=part.bytes,
                job_row=job_row,
            )
            number += 1
            job_row += part.rows
            left = None if left is None else left - part.rows


def cut(row_groups: Sequence[RowGroup], rows: int) -> list[RowGroup]:
    """The first `rows` rows of the groups; the bytes of a cut group are cut in proportion."""
    kept: list[RowGroup] = []
    for group in row_groups:
        if rows <= 0:
            break
        take = min(rows, group.rows)
        kept.append(RowGroup(take, group.text_bytes * take // max(1, group.rows)))
        rows -= take
    return kept


def slice_file(row_groups: Sequence[RowGroup], target: Target) -> Iterator[Slice]:
    """The file's rows exactly once and in order, as slices near the target.

    Whole row groups are put together while they fit; one that is too large by itself is split
    evenly, and its pieces are not put together with others. So a small slice stands only before a
    row group that would have made it too large, or after a split.
    """
    most = 1.0 + target.slack
    first_row = start = stop = rows = size = 0
    for number, group in enumerate(row_groups):
        if not group.rows:
            continue
        if rows and _weight(rows + group.rows, size + group.text_bytes, target) > most:
            yield Slice(start, stop, first_row, rows, size)
            first_row, rows, size = first_row + rows, 0, 0
        if _weight(*group, target) > most:
            yield from _split(number, first_row, group, target)
            first_row += group.rows
        else:
            start, stop = start if rows else number, number + 1
            rows, size = rows + group.rows, size + group.text_bytes
    if rows:
        yield Slice(start, stop, first_row, rows, size)


def _weight(rows: int, size: int, target: Target) -> float:
    """How full a chunk is: 1.0 is at its target."""
    return max(rows / target.rows, size / target.bytes)


def _split(number: int, first_row: int, group: RowGroup, target: Target) -> Iterator[Slice]:
    """One large row group in even pieces, none of them empty."""
    pieces = min(group.rows, ceil(_weight(*group, target) / (1.0 + target.slack)))
    for i in range(pieces):
        low, high = group.rows * i // pieces, group.rows * (i + 1) // pieces
        size = group.text_bytes * (high - low) // group.rows
        yield Slice(number, number + 1, first_row + low, high - low, size)
