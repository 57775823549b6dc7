"""The rows of a chunk, read from its input file: only its row groups, only its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.formats.input_identity import etag_of
from headrace.storage.store import Store
from headrace.storage.uri import split_uri
from schemas.errors import InputChanged, InputUnreadable
from schemas.records.chunk import Chunk, InputFile
from schemas.records.job import Spec
from schemas.records.text_hash import text_hash
from workers.pipeline.ports import Observe
from workers.pipeline.rows import (
    INVALID_TEXT,
    NULL_TEXT,
    RowError,
    Window,
)

# Chosen: enough rows to sort well, little enough that two windows and a part in the making stay
# far under the 400 MB a worker may have above its model.
WINDOW_ROWS = 8_192
WINDOW_BYTES = 16 << 20
# Where the device is as fast as the tokenizer it would wait for the first window: 0.2 s on an H200
# (measured). There windows begin small, and each has twice the rows of the one before.
FIRST_ROWS = 1_024
WHOLE_BYTES = 64 << 20  # chosen: with the window and the part, far under 400 MB
PIECE_BYTES = 8 << 20  # measured: 300 MB of text in 0.5 s and 70 MB, against 2.1 s and 336 MB whole


def open_input(file: InputFile, open_store: Callable[[str], Store]) -> Any:
    """The input file, open to read at random, if it is still the one that was planned.

    Raises:
        InputChanged: it is gone, or another one has its name.
    """
    root, name = split_uri(file.uri)
    store = open_store(root)
    if etag_of(store, name) != (file.size, file.etag):
        raise InputChanged(
            f"{file.uri} is not the file that was planned: put it back, or submit a new job"
        )
    return store.open(name)


def read_windows(
    file: Any,
    chunk: Chunk,
    spec: Spec,
    observe: Observe,
    rows: int = WINDOW_ROWS,
    first_rows: int | None = None,
) -> Iterator[Window]:
    """The chunk's rows from an open input file, window by window.

    A window has at most `rows` rows. With `first_rows` the first has no more than these, and each
    other at most twice as many as the one before.

    Raises:
        InputUnreadable: the file is not the Parquet it was, or ends early.
        InputChanged: it has fewer rows than the plan says.
    """
    try:
        names = _file_columns(spec, chunk)
        reader = _reader(file, chunk, names)
        groups = range(chunk.row_group_start, chunk.row_group_stop)
        before = sum(reader.metadata.row_group(g).num_rows for g in range(chunk.row_group_start))
        size = _batch_rows(reader, chunk, rows)
        batches = reader.iter_batches(
            batch_size=size, row_groups=list(groups), columns=names, use_threads=False
        )
        own = _after(batches, chunk.first_row - before)
        pieces = cut(own, min(first_rows or rows, rows), rows)
        yield from _windows(pieces, chunk, spec, observe)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # of a damaged page or footer; Arrow's own words may hold text of the corpus
        kind = type(error).__name__
        raise InputUnreadable(f"{chunk.file.uri} cannot be read as Parquet: {kind}") from error


def _reader(file: Any, chunk: Chunk, names: Sequence[str]) -> pq.ParquetFile:
    """The file, its column chunks read whole and at once; large ones piece by piece.

    A file of one giant row group is split into many chunks, and none of them may hold all of it.
    """
    reader = pq.ParquetFile(file, pre_buffer=True)
    metadata = reader.metadata
    stored = sum(
        column.total_compressed_size
        for group in map(metadata.row_group, range(chunk.row_group_start, chunk.row_group_stop))
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema.split(".")[0] in names
    )
    if stored <= WHOLE_BYTES:
        return reader
    return pq.ParquetFile(file, metadata=metadata, buffer_size=PIECE_BYTES)


def _file_columns(spec: Spec, chunk: Chunk) -> list[str]:
    """The columns to read, each once; partition columns come from the path."""
    wanted = [spec.text_column, spec.text_pair_column, spec.id_column, *spec.columns]
    partitions = dict(chunk.file.partitions)
    return list(dict.fromkeys(n for n in wanted if n and n not in partitions))


def _batch_rows(reader: pq.ParquetFile, chunk: Chunk, rows: int) -> int:
    """Fewer rows a window where the rows are large."""
    mean = max(1, chunk.bytes // max(1, chunk.rows))
    return max(1, min(rows, WINDOW_BYTES // mean))


def _windows(
    batches: Iterator[pa.RecordBatch], chunk: Chunk, spec: Spec, observe: Observe
) -> Iterator[Window]:
    start = 0
    while start < chunk.rows:
        with observe("read") as stage:
            batch = next(batches, None)
            if batch is None:
                raise InputChanged(
                    f"{chunk.file.uri} ends at row {chunk.first_row + start}; chunk {chunk.number} was "
                    f"planned to row {chunk.first_row + chunk.rows}"
                )
            batch = batch.slice(0, chunk.rows - start)
            window = make_window(batch, start, chunk, spec)
            stage.add(rows=len(window), bytes=batch.nbytes)
        start += len(window)
        yield window


def _after(batches: Iterable[pa.RecordBatch], skip: int) -> Iterator[pa.RecordBatch]:
    """All rows but the first so many."""
    for batch in batches:
        if skip < batch.num_rows:
            yield batch.slice(skip)
        skip = max(0, skip - batch.num_rows)


def cut(batches: Iterable[pa.RecordBatch], first: int, most: int) -> Iterator[pa.RecordBatch]:
    """The rows in smaller batches: `first` at most, then twice as many each time up to `most`."""
    size = first
    for batch in batches:
        at = 0
        while at < batch.num_rows:
            piece = batch.slice(at, size)
            yield piece
            at, size = at + piece.num_rows, min(size * 2, most)


def make_window(batch: pa.RecordBatch, start: int, chunk: Chunk, spec: Spec) -> Window:
    """Rows as read, with their texts checked and hashed; `start` counts within the chunk."""
    raw = _as_bytes(batch.column(batch.schema.get_field_index(spec.text_column)))
    texts = _decode(raw)
    pairs: list[str] | None = None
    if spec.text_pair_column:
        raw_pairs = _as_bytes(batch.column(batch.schema.get_field_index(spec.text_pair_column)))
        texts, pairs = _paired(texts, _decode(raw_pairs))
        hashes = [
            None if isinstance(t, RowError) else text_hash(a or b"", b or b"")
            for t, a, b in zip(texts, raw, raw_pairs, strict=True)
        ]
    else:
        hashes = [
            None if isinstance(t, RowError) else text_hash(a or b"")
            for t, a in zip(texts, raw, strict=True)
        ]
    return Window(start, _carried(batch, start, chunk, spec), texts, hashes, pairs)


def _as_bytes(column: pa.Array) -> list[bytes | None]:
    """The column's values as they lie in the file, whichever string type it has."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view()).cast(pa.large_binary())
    elif column.type == pa.large_string():
        column = column.cast(pa.large_binary())
    elif column.type == pa.string():
        column = column.cast(pa.binary())
    values: list[bytes | None] = column.to_pylist()
    return values


def _decode(raw: Sequence[bytes | None]) -> list[str | RowError]:
    texts: list[str | RowError] = []
    for value in raw:
        if value is None:
            texts.append(NULL_TEXT)
            continue
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            texts.append(INVALID_TEXT)
    return texts


def _paired(
    texts: list[str | RowError], pairs: list[str | RowError]
) -> tuple[list[str | RowError], list[str]]:
    """A pair is as good as its worse half."""
    both: list[str | RowError] = [
        p if isinstance(p, RowError) else t for t, p in zip(texts, pairs, strict=True)
    ]
    return both, ["" if isinstance(p, RowError) else p for p in pairs]


def _carried(batch: pa.RecordBatch, start: int, chunk: Chunk, spec: Spec) -> pa.RecordBatch:
    """The id column and the carried columns, under their own names and types."""
    partitions = dict(chunk.file.partitions)
    rows = batch.num_rows
    first = chunk.first_row + start
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
