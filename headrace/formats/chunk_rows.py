"""The rows of a chunk, as the worker scores them and as `verify` reads them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from headrace.formats.base import Span
from headrace.formats.opener import OpenFile
from schemas.records.chunk import Chunk, Piece
from schemas.records.job import Spec


class PieceRows(NamedTuple):
    """Neighbouring rows of a piece, as a `pyarrow.RecordBatch`."""

    piece: Piece
    first_row: int
    """Row number of the first of them within the file."""
    batch: Any


def chunk_rows(
    open_file: OpenFile, chunk: Chunk, spec: Spec, types: Any, batch_rows: int
) -> Iterator[PieceRows]:
    """Batches of the chunk's rows with the columns that the job reads; see `RowReader.read`.

    Ends with the first file that has fewer rows than planned.
    """
    for piece in chunk.pieces:
        at = 0
        for found in piece_rows(open_file, piece, spec, types, batch_rows):
            yield found
            at += found.batch.num_rows
        if at < piece.rows:
            return


def piece_rows(
    open_file: OpenFile, piece: Piece, spec: Spec, types: Any, batch_rows: int
) -> Iterator[PieceRows]:
    """Batches of one piece's rows, never more than it has; fewer where the file ends early."""
    at = 0
    reader = open_file(piece.file)
    for batch in reader.read(span_of(piece), file_columns(spec, piece), types, batch_rows):
        rows = batch.slice(0, piece.rows - at)
        yield PieceRows(piece, piece.first_row + at, rows)
        at += rows.num_rows
        if at >= piece.rows:
            return


def span_of(piece: Piece) -> Span:
    """What to read of the file."""
    return Span(piece.start, piece.stop, piece.skip, piece.first_row, piece.rows)


def file_columns(spec: Spec, piece: Piece) -> list[str]:
    """The columns to read, each once; partition columns come from the path."""
    wanted = [spec.text_source, spec.text_pair_column, spec.id_column, *spec.columns]
    partitions = dict(piece.file.partitions)
    return list(dict.fromkeys(n for n in wanted if n and n not in partitions))
