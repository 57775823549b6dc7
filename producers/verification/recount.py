"""Compares a part with the input it was made from: every row, in order, as a stream."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from headrace.formats.base import RowReader
from headrace.formats.chunk_rows import chunk_rows
from headrace.formats.text_column import plain_column
from headrace.storage.store import Store
from producers.planning.columns import ROW_NUMBER
from producers.verification.row_diff import WINDOW_ROWS, WORDS, align, differences
from schemas.errors import InputUnreadable
from schemas.names import output_layout
from schemas.records import part_schema
from schemas.records.chunk import Chunk
from schemas.records.job import Job
from schemas.records.model_key import engine_name

WHOLE_BYTES = 128 << 20  # chosen: a part up to this is read once; a larger one twice, as a stream
BLOCK_BYTES = 1 << 20


@dataclass(slots=True)
class ChunkCount:
    """The counts of a part, and its problems: kind → the first place."""

    rows: int = 0
    ok: int = 0
    errors: int = 0
    sha256: str = ""
    bytes: int = 0
    errors_by_type: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)

    def wrong(self, kind: str, message: str) -> None:
        self.problems.setdefault(kind, message)


def recount(
    store: Store, job: Job, chunk: Chunk, input_file: RowReader | None, size: int, types: Any = None
) -> ChunkCount:
    """The part of the chunk counted, against its open input (or None); `types` are the plan's.

    Raises:
        StorageError: the store does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = ChunkCount()
    source = _open_part(store, output_layout.part(chunk.number), size, count)
    if source is None:
        return count
    with source:
        try:
            reader = pq.ParquetFile(source, page_checksum_verification=True)
            _check_metadata(reader, job, chunk, count)
            names = _part_columns(job)
            missing = [name for name in names if name not in reader.schema_arrow.names]
            if missing:
                count.wrong("columns", f"has no column {', '.join(missing)}")
                return count
            ours = reader.iter_batches(WINDOW_ROWS, columns=names, use_threads=False)
            theirs = None
            if input_file is not None:
                rows = chunk_rows(input_file, chunk, job.spec, types, WINDOW_ROWS)
                theirs = _readable(rows)
            _compare(ours, theirs, job, chunk, count)
            _check_counts(chunk, reader, count)
        except InputUnreadable as error:
            count.wrong("input_changed", f"its input cannot be read: {error}")
        except (pa.ArrowException, OSError, ValueError) as error:
            count.wrong("unreadable_part", f"cannot be read: {type(error).__name__}: {error}")
    return count


def _open_part(store: Store, name: str, size: int, count: ChunkCount) -> Any | None:
    """The part, hashed and open at its beginning."""
    digest = hashlib.sha256()
    if size <= WHOLE_BYTES:
        data = store.read(name)
        if data is None:
            count.wrong("missing_part", "went away while it was being read")
            return None
        digest.update(data)
        count.sha256, count.bytes = digest.hexdigest(), len(data)
        return io.BytesIO(data)
    try:
        source = store.open(name)
    except FileNotFoundError:
        count.wrong("missing_part", "went away while it was being read")
        return None
    while block := bytes(source.read(BLOCK_BYTES)):
        digest.update(block)
        count.bytes += len(block)
    count.sha256 = digest.hexdigest()
    source.seek(0)
    return source


def _part_columns(job: Job) -> list[str]:
    own = [job.spec.id_column or ROW_NUMBER, *job.spec.columns]
    return [*own, "status", "error_type", "text_hash"]


def _check_metadata(reader: Any, job: Job, chunk: Chunk, count: ChunkCount) -> None:
    facts = {k.decode(): v.decode() for k, v in (reader.metadata.metadata or {}).items()}
    expected = {
        part_schema.META_JOB: job.id,
        part_schema.META_CHUNK: str(chunk.number),
        part_schema.META_FILE: chunk.file.uri,
        part_schema.META_FIRST_ROW: str(chunk.first_row),
        part_schema.META_REVISION: job.spec.model.revision,
        part_schema.META_DTYPE: job.spec.dtype,
    }
    if job.spec.engine_version is not None:  # parts of earlier versions name no engine
        expected[part_schema.META_ENGINE] = engine_name(job.spec)
    for key, value in expected.items():
        if facts.get(key) != value:
            kind = "model_revision" if key == part_schema.META_REVISION else "metadata"
            count.wrong(kind, f"its {key} is {facts.get(key, 'missing')!r} and must be {value!r}")


def _check_counts(chunk: Chunk, reader: Any, count: ChunkCount) -> None:
    if count.rows != chunk.rows:
        count.wrong("row_count", f"has {count.rows} rows and its chunk {chunk.rows}")
    if count.ok + count.errors != count.rows:
        count.wrong(
            "status", f"{count.rows - count.ok - count.errors} rows are neither ok nor error"
        )
    facts = reader.metadata.metadata or {}
    if facts.get(part_schema.META_OK.encode(), b"").decode() != str(count.ok):
        count.wrong("metadata", f"its {part_schema.META_OK} is not the {count.ok} ok rows it holds")


def _readable(batches: Iterator[Any]) -> Iterator[Any]:
    """The same, with errors of the input distinguished from errors of the part."""
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputUnreadable(f"{type(error).__name__}: {error}") from error


def _compare(
    ours: Iterator[Any], theirs: Iterator[Any] | None, job: Job, chunk: Chunk, count: ChunkCount
) -> None:
    def counted() -> Iterator[Any]:
        for batch in ours:
            _count_status(batch, count)
            yield batch

    parts = counted()
    if theirs is None:
        for _ in parts:
            pass
        return
    at = 0
    first = next(theirs, None)
    for mine, source in align(parts, chain([] if first is None else [first], theirs)):
        for kind, row in differences(mine, source, job, chunk, at):
            count.wrong(kind, f"{WORDS[kind]}, first at row {at + row} of the chunk, row "
                        f"{chunk.first_row + at + row} of {chunk.file.uri}")  # fmt: skip
        at += mine.num_rows
    for _ in parts:  # rows beyond the input's are counted too
        pass
    if at < chunk.rows and count.rows >= chunk.rows:
        count.wrong("input_rows", f"the input has only {at} of the chunk's {chunk.rows} rows")


def _count_status(batch: Any, count: ChunkCount) -> None:
    import pyarrow.compute as pc

    status = {
        v["values"]: v["counts"] for v in pc.value_counts(plain_column(batch, "status")).to_pylist()
    }
    count.rows += batch.num_rows
    count.ok += status.get(part_schema.OK, 0)
    count.errors += status.get(part_schema.ERROR, 0)
    for found in pc.value_counts(plain_column(batch, "error_type")).to_pylist():
        if found["values"] is not None:
            count.errors_by_type[found["values"]] += found["counts"]
