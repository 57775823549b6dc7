"""The rows of a chunk, as the worker scores them and as `verify` reads them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.formats.base import RowReader, Span
from schemas.records.chunk import Chunk
from schemas.records.job import Spec


def chunk_rows(
    reader: RowReader, chunk: Chunk, spec: Spec, types: Any, batch_rows: int
) -> Iterator[Any]:
    """Batches of the chunk's rows with the columns that the job reads; see `RowReader.read`."""
    span = Span(chunk.start, chunk.stop, chunk.skip, chunk.first_row, chunk.rows)
    return reader.read(span, file_columns(spec, chunk), types, batch_rows)


def file_columns(spec: Spec, chunk: Chunk) -> list[str]:
    """The columns to read, each once; partition columns come from the path."""
    wanted = [spec.text_source, spec.text_pair_column, spec.id_column, *spec.columns]
    partitions = dict(chunk.file.partitions)
    return list(dict.fromkeys(n for n in wanted if n and n not in partitions))
