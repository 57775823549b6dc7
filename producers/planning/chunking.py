"""From the units of a corpus to its chunks. Pure: numbers in, numbers out, as a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from headrace.assumptions import BYTES_PER_TOKEN, CHUNK_S
from headrace.formats.base import Unit
from headrace.storage.uri import is_local_uri
from schemas.records.chunk import Chunk, InputFile, Piece

# Chosen: with eight chunks each, the last worker to finish idles the others for an eighth at most.
# With four, two workers on 20,000 short rows (seven chunks) were at 0.84 of two bare engines.
CHUNKS_PER_WORKER = 8
MIN_ROWS = 256  # chosen: in smaller chunks, lease, open and commit take a visible share
# Chosen: the last chunk of each worker is cut in three, so that two workers end together; a piece takes
# a quarter of a second of a CPU at least, and costs some 20 ms by itself.
TAIL_PIECES = 3
TAIL_MIN_ROWS = 128
MAX_ROWS = 100_000  # required: a part is checked and hashed as a whole
MAX_BYTES = 64 << 20  # required: a worker may have 400 MB above its model
MAX_PIECES = 64
"""Chosen: what a chunk costs (some ten requests) is little for each of 64 files, and one that is lost
in the night takes no more than 63 others with it."""
SHARED_WEIGHT = 0.5  # chosen: below it two fit into a chunk
# Chosen: how far a chunk that ends with a unit may exceed its target.
SLACK = 0.25


class Target(NamedTuple):
    """What a chunk should hold: the row count and the bytes that fill it, whichever comes first."""

    rows: int
    bytes: int
    slack: float = SLACK
    """How far a chunk may exceed the target to end with a unit; 0 if the user set the target."""
    tail: int = 0
    """How many of the last chunks are cut smaller; 0 if the user set the target."""


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file and the units of its rows."""

    file: InputFile
    units: Sequence[Unit]


class Slice(NamedTuple):
    """Neighbouring rows of one file, and the units they are in."""

    start: int
    stop: int
    skip: int
    """Rows from `start` on that come before."""
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

    About 30 s of work, but at least eight chunks per worker where the corpus is small. The last chunk
    of each worker is cut smaller. What the user has set (`chunk_rows`, `chunk_bytes`) is an exact upper bound.
    """
    if chunk_rows is not None or chunk_bytes is not None:
        return Target(chunk_rows or MAX_ROWS, chunk_bytes or 1 << 62, slack=0.0)
    wanted_bytes = CHUNK_S * tokens_per_s * BYTES_PER_TOKEN
    mean = max(1.0, text_bytes / max(1, rows))
    wanted_rows = min(wanted_bytes / mean, ceil(rows / (CHUNKS_PER_WORKER * max(1, workers))))
    return Target(
        rows=int(min(MAX_ROWS, max(MIN_ROWS, wanted_rows))),
        bytes=int(min(MAX_BYTES, max(MIN_ROWS * mean, wanted_bytes))),
        tail=max(1, workers),
    )


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How a corpus is cut into chunks."""

    files: Iterable[FileRows]
    target: Target
    limit: int | None = None
    """Rows at most; None: all."""

    def chunks(self) -> Iterator[Chunk]:
        """The chunks, made again each time they are read."""
        return plan(self.files, self.target, self.limit)


def plan(files: Iterable[FileRows], target: Target, limit: int | None = None) -> Iterator[Chunk]:
    """The chunks of the files, in order; `limit` rows at most.

    A chunk is a slice of one file, or several whole files that are small, one after another.
    """
    number = job_row = 0
    together = _together(_pieces(files, target, limit), target)
    for pieces in _with_short_tail(together, target.tail):
        chunk = Chunk(number, pieces, job_row)
        yield chunk
        number, job_row = number + 1, job_row + chunk.rows


class _Sliced(NamedTuple):
    """A piece, and whether it may share a chunk: it is all of its file, and small."""

    piece: Piece
    may_share: bool


def _pieces(files: Iterable[FileRows], target: Target, limit: int | None) -> Iterator[_Sliced]:
    left = limit
    for found in files:
        if left is not None and left <= 0:
            return
        units = found.units if left is None else cut(found.units, left)
        slices = list(slice_file(units, target))
        for part in slices:
            small = _weight(part.rows, part.bytes, target) <= SHARED_WEIGHT
            yield _Sliced(Piece(found.file, *part), small and len(slices) == 1)
            left = None if left is None else left - part.rows


def _together(pieces: Iterable[_Sliced], target: Target) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each chunk: small neighbours together while they fit."""
    waiting: list[Piece] = []
    for piece, may_share in pieces:
        if waiting and not (may_share and _fit(waiting, piece, target)):
            yield tuple(waiting)
            waiting = []
        waiting.append(piece)
        if not may_share:
            yield tuple(waiting)
            waiting = []
    if waiting:
        yield tuple(waiting)


def _with_short_tail(chunks: Iterable[tuple[Piece, ...]], tail: int) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each chunk; the last `tail` chunks are cut smaller where they are of one file."""
    last: deque[tuple[Piece, ...]] = deque()
    for pieces in chunks:
        last.append(pieces)
        if len(last) > tail:
            yield last.popleft()
    for pieces in last:
        if len(pieces) == 1:
            yield from ((part,) for part in _shorter(pieces[0]))
        else:
            yield pieces


def _shorter(piece: Piece) -> Iterator[Piece]:
    """The piece in `TAIL_PIECES` parts, or in fewer, so that each has `TAIL_MIN_ROWS` rows."""
    parts = max(1, min(TAIL_PIECES, piece.rows // TAIL_MIN_ROWS))
    for i in range(parts):
        low, high = piece.rows * i // parts, piece.rows * (i + 1) // parts
        yield replace(
            piece,
            skip=piece.skip + low,
            first_row=piece.first_row + low,
            rows=high - low,
            bytes=piece.bytes * (high - low) // piece.rows,
        )


def _fit(pieces: Sequence[Piece], piece: Piece, target: Target) -> bool:
    """Whether one more piece fits beside these, and is read alike."""
    together = [*pieces, piece]
    weight = _weight(sum(p.rows for p in together), sum(p.bytes for p in together), target)
    return weight <= 1.0 and len(together) <= MAX_PIECES and _kind(pieces[0]) == _kind(piece)


def _kind(piece: Piece) -> tuple[object, ...]:
    file = piece.file
    return file.format, is_local_uri(file.uri), [name for name, _ in file.partitions]


def cut(units: Sequence[Unit], rows: int) -> list[Unit]:
    """The first `rows` rows of the units; the bytes of a cut unit are cut in proportion."""
    kept: list[Unit] = []
    for unit in units:
        if rows <= 0:
            break
        take = min(rows, unit.rows)
        size = unit.text_bytes * take // max(1, unit.rows)
        kept.append(unit._replace(rows=take, text_bytes=size))
        rows -= take
    return kept


def slice_file(units: Sequence[Unit], target: Target) -> Iterator[Slice]:
    """The file's rows, each exactly once and in order, as slices near the target size.

    Whole units are put together while they fit; one that is too large by itself is split evenly,
    and its pieces are not put together with others. So a small slice comes only before a unit that
    would have made it too large, or after a split.
    """
    most = 1.0 + target.slack
    first_row = start = stop = skip = rows = size = 0
    for unit in units:
        if not unit.rows:
            continue
        if rows and _weight(rows + unit.rows, size + unit.text_bytes, target) > most:
            yield Slice(start, stop, skip, first_row, rows, size)
            first_row, rows, size = first_row + rows, 0, 0
        if _weight(unit.rows, unit.text_bytes, target) > most:
            yield from _split(first_row, unit, target)
            first_row += unit.rows
        else:
            start, skip = (start, skip) if rows else (unit.start, unit.lead)
            stop = unit.stop
            rows, size = rows + unit.rows, size + unit.text_bytes
    if rows:
        yield Slice(start, stop, skip, first_row, rows, size)


def _weight(rows: int, size: int, target: Target) -> float:
    """How full a chunk is; 1.0 means that it has reached its target."""
    return max(rows / target.rows, size / target.bytes)


def _split(first_row: int, unit: Unit, target: Target) -> Iterator[Slice]:
    """One large unit, split into even pieces; none is empty."""
    weight = _weight(unit.rows, unit.text_bytes, target)
    pieces = min(unit.rows, ceil(weight / (1.0 + target.slack)))
    for i in range(pieces):
        low, high = unit.rows * i // pieces, unit.rows * (i + 1) // pieces
        size = unit.text_bytes * (high - low) // unit.rows
        yield Slice(unit.start, unit.stop, unit.lead + low, first_row + low, high - low, size)
