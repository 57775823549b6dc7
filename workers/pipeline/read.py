"""The rows of a chunk, read from its input files window by window, their texts checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from headrace.formats.base import FAULT, FAULTS
from headrace.formats.opener import OpenFile, PieceRows, piece_rows
from headrace.formats.template import columns_of
from headrace.formats.text_column import as_bytes, plain_column
from headrace.tracing.chunk_trace import Observe
from schemas.errors import InputChanged, InputUnreadable
from schemas.records.chunk import Chunk
from schemas.records.job import Spec
from schemas.records.text_hash import text_hash
from workers.pipeline.rows import (
    INVALID_TEXT,
    NULL_TEXT,
    RowError,
    Window,
)

# Chosen: enough rows to sort well by length.
WINDOW_ROWS = 8_192
# Some seven windows are held at once, as texts and ids: three of them wait for the device, three to
# be written. While rows of 1 kB are scored, a worker grows by 200 MB with 4 MiB, by 140 MB with 1 MiB
# (measured); that is still some 100 batches of a CPU. A GPU's batches are larger.
WINDOW_BYTES = 1 << 20
WINDOW_BYTES_GPU = 16 << 20
# A device as fast as the tokenizer would wait for the first window: 0.2 s on an H200 (measured).
# There the first window is small, and each has twice the rows of the previous one.
FIRST_ROWS = 1_024


class WindowSizes(NamedTuple):
    """How many rows are read at a time."""

    rows: int = WINDOW_ROWS
    first_rows: int | None = None
    """Rows of the first window; each later one has at most twice as many as the previous."""
    most_bytes: int = WINDOW_BYTES
    """About as many bytes where rows are large."""


ON_CPU = WindowSizes()
ON_GPU = WindowSizes(first_rows=FIRST_ROWS, most_bytes=WINDOW_BYTES_GPU)


def read_windows(
    open_file: OpenFile,
    chunk: Chunk,
    spec: Spec,
    observe: Observe,
    types: pa.Schema | None = None,
    sizes: WindowSizes = ON_CPU,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Window]:
    """The chunk's rows from its input files, window by window.

    Small files are together in a window. `types` are the column types of the plan. Each window is
    read inside a context from `around`.

    Raises:
        InputUnreadable: a file differs from the planned one, or ends early.
        InputChanged: it has fewer rows than planned.
    """
    first = min(sizes.first_rows or sizes.rows, sizes.rows)
    batch_rows = _batch_rows(chunk, sizes)
    read = _pieces(open_file, chunk, spec, types, batch_rows, first, sizes.rows)
    groups = grouped(read, first, batch_rows) if len(chunk.pieces) > 1 else ([r] for r in read)
    start = 0
    while start < chunk.rows:
        with around(), observe("read") as stage:
            group = next(groups)
            window = join_windows([window for window, _ in group])
            stage.add(rows=len(window), bytes=sum(size for _, size in group))
        start += len(window)
        yield window


def _batch_rows(chunk: Chunk, sizes: WindowSizes) -> int:
    """Rows per window: fewer where the rows are large."""
    mean = max(1, chunk.bytes // max(1, chunk.rows))
    return max(1, min(sizes.rows, sizes.most_bytes // mean))


_Read = tuple[Window, int]
"""A window of one file's rows, and the bytes that it had when it was read."""


def _pieces(
    open_file: OpenFile,
    chunk: Chunk,
    spec: Spec,
    types: Any,
    batch_rows: int,
    first: int,
    most: int,
) -> Iterator[_Read]:
    """The rows of each piece; each error names the piece's own file."""
    start = 0
    for piece in chunk.pieces:
        end = start + piece.rows
        try:
            found = piece_rows(open_file, piece, spec, types, batch_rows)
            for batch in cut((rows.batch for rows in found), first, most):
                at = piece.first_row + piece.rows - (end - start)
                yield make_window(PieceRows(piece, at, batch), start, spec), batch.nbytes
                start += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            # of a damaged page, footer or stream; Arrow's message may hold text of the corpus
            is_flipped = "checksum verification failed" in str(error)
            why = "a page does not fit its checksum" if is_flipped else type(error).__name__
            raise InputUnreadable(
                f"{piece.file.uri} cannot be read as {piece.file.format}: {why}"
            ) from error
        if start < end:
            last = piece.first_row + piece.rows
            raise InputChanged(
                f"{piece.file.uri} ends at row {last - (end - start)}; chunk {chunk.number} was "
                f"planned to row {last}"
            )


def cut(batches: Iterable[pa.RecordBatch], first: int, most: int) -> Iterator[pa.RecordBatch]:
    """The rows in smaller batches: `first` at most, then twice as many each time up to `most`."""
    size = first
    for batch in batches:
        at = 0
        while at < batch.num_rows:
            piece = batch.slice(at, size)
            yield piece
            at, size = at + piece.num_rows, min(size * 2, most)


def grouped(read: Iterable[_Read], first: int, most: int) -> Iterator[list[_Read]]:
    """Neighbours together: `first` rows at most, then twice as many each time up to `most`."""
    group: list[_Read] = []
    rows, size = 0, min(first, most)
    for window, read_bytes in read:
        if group and rows + len(window) > size:
            yield group
            group, rows, size = [], 0, min(size * 2, most)
        group.append((window, read_bytes))
        rows += len(window)
    if group:
        yield group


def join_windows(windows: Sequence[Window]) -> Window:
    """One window of neighbours."""
    if len(windows) == 1:
        return windows[0]
    table = pa.Table.from_batches([w.carried for w in windows]).unify_dictionaries()
    (carried,) = table.combine_chunks().to_batches()
    pairs = [pair for w in windows for pair in w.pairs or ()]
    return Window(
        windows[0].start,
        carried,
        [text for w in windows for text in w.texts],
        [digest for w in windows for digest in w.hashes],
        None if windows[0].pairs is None else pairs,
    )


def make_window(found: PieceRows, start: int, spec: Spec) -> Window:
    """Rows as read, with their texts checked and hashed; `start` counts within the chunk."""
    batch = found.batch
    faults = _faults(batch)
    raw = as_bytes(plain_column(batch, spec.text_source))
    texts = _decode(raw, faults)
    pairs: list[str] | None = None
    second = spec.pair_source
    if second:
        raw_pairs = as_bytes(plain_column(batch, second))
        of_column = partial(_of_columns, columns_of(second))
        texts, pairs = _paired(texts, _decode(raw_pairs, faults, of_column))
        hashes = [
            None if isinstance(t, RowError) else text_hash(a or b"", b or b"")
            for t, a, b in zip(texts, raw, raw_pairs, strict=True)
        ]
    else:
        hashes = [
            None if isinstance(t, RowError) else text_hash(a or b"")
            for t, a in zip(texts, raw, strict=True)
        ]
    return Window(start, _carried(found, spec), texts, hashes, pairs)


def _faults(batch: pa.RecordBatch) -> dict[int, RowError]:
    """Errors that the format found, by row."""
    at = batch.schema.get_field_index(FAULT)
    if at < 0:
        return {}
    codes = batch.column(at).to_numpy()
    return {int(row): RowError(*FAULTS[codes[row] - 1]) for row in codes.nonzero()[0]}


def _of_columns(names: Sequence[str], error: RowError) -> RowError:
    """The error of a row's second text, which says where it is: a row has two."""
    word = "column" if len(names) == 1 else "columns"
    return replace(error, message=f"{word} {' and '.join(map(repr, names))}: {error.message}")


def _decode(
    raw: Sequence[bytes | None],
    faults: Mapping[int, RowError],
    named: Callable[[RowError], RowError] = lambda error: error,
) -> list[str | RowError]:
    texts: list[str | RowError] = []
    for row, value in enumerate(raw):
        if value is None:
            texts.append(faults[row] if row in faults else named(NULL_TEXT))
            continue
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            texts.append(named(INVALID_TEXT))
    return texts


def _paired(
    texts: list[str | RowError], pairs: list[str | RowError]
) -> tuple[list[str | RowError], list[str]]:
    """The first error of a row's two texts, if any."""
    both: list[str | RowError] = [
        p if isinstance(p, RowError) and not isinstance(t, RowError) else t
        for t, p in zip(texts, pairs, strict=True)
    ]
    return both, ["" if isinstance(p, RowError) else p for p in pairs]


def _carried(found: PieceRows, spec: Spec) -> pa.RecordBatch:
    """The id column and the carried columns, under their own names and types."""
    piece, first, batch = found
    partitions = dict(piece.file.partitions)
    rows = batch.num_rows
    names: list[str] = []
    arrays: list[pa.Array] = []
    if spec.id_column is None:
        names.append("id")
        arrays.append(pa.array(range(first, first + rows), pa.int64()))
    for name in [*([spec.id_column] if spec.id_column else []), *spec.columns]:
        names.append(name)
        if name in partitions:
            arrays.append(pa.repeat(pa.scalar(partitions[name], pa.string()), rows))
        else:
            arrays.append(batch.column(batch.schema.get_field_index(name)))
    return pa.RecordBatch.from_arrays(arrays, names=names)
