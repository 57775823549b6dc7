"""Compares a part with the input it was made from: every row, in order, as a stream."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.formats.base import RowReader
from headrace.formats.opener import PieceRows, piece_rows
from headrace.formats.text_column import plain_column
from headrace.storage.store import Store
from producers.planning.columns import ROW_NUMBER
from producers.verification.row_diff import WINDOW_ROWS, WORDS, Rows, differences
from schemas.errors import InputUnreadable
from schemas.names import output_layout
from schemas.records import part_schema
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import Job, Spec
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


OpenInput = Callable[[InputFile], RowReader | None]
"""Opens an input file; None where it is gone or not readable any more."""


def recount(
    store: Store, job: Job, chunk: Chunk, open_input: OpenInput, size: int, types: Any = None
) -> ChunkCount:
    """The part of the chunk counted, and compared with its input; `types` are the plan's.

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
            _compare(ours, _Input(open_input, job.spec, types), chunk, count)
            _check_counts(chunk, reader, count)
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
        part_schema.META_FILE: chunk.pieces[0].file.uri,
        part_schema.META_FIRST_ROW: str(chunk.pieces[0].first_row),
        part_schema.META_REVISION: job.spec.model.revision,
        part_schema.META_DTYPE: job.spec.dtype,
    }
    if job.spec.engine_version is not None:  # parts of earlier versions name no engine
        expected[part_schema.META_ENGINE] = engine_name(job.spec)
    for key, value in expected.items():
        if facts.get(key) != value:
            kind = "model_revision" if key == part_schema.META_REVISION else "metadata"
            count.wrong(kind, f"its {key} is {facts.get(key, 'missing')!r} and must be {value!r}")
    if len(chunk.pieces) > 1 and _sources(facts) != [list(s) for s in chunk.sources()]:
        count.wrong("metadata", f"its {part_schema.META_SOURCES} are not the files of its chunk")


def _sources(facts: Mapping[str, str]) -> object:
    try:
        return json.loads(facts.get(part_schema.META_SOURCES, "null"))
    except (ValueError, RecursionError):
        return None


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


@dataclass(frozen=True, slots=True)
class _Input:
    """The input that parts are compared with."""

    open: OpenInput
    spec: Spec
    types: Any

    def rows(self, piece: Piece) -> Iterator[PieceRows] | None:
        """The piece's rows; None where its file cannot be opened any more.

        Raises:
            InputUnreadable: while they are read: errors of the input, distinguished from the part's.
        """
        reader = self.open(piece.file)
        return None if reader is None else self._read(reader, piece)

    def _read(self, reader: RowReader, piece: Piece) -> Iterator[PieceRows]:
        import pyarrow as pa

        try:
            yield from piece_rows(lambda _: reader, piece, self.spec, self.types, WINDOW_ROWS)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputUnreadable(f"{type(error).__name__}: {error}") from error


def _compare(ours: Iterator[Any], source: _Input, chunk: Chunk, count: ChunkCount) -> None:
    """Every row of the part beside its input row, file by file: one that is lost hides no other."""

    def counted() -> Iterator[Any]:
        for batch in ours:
            _count_status(batch, count)
            yield batch

    parts = Rows(counted())
    at = seen = wanted = 0
    for piece in chunk.pieces:
        theirs = source.rows(piece)
        compared = 0 if theirs is None else _compare_piece(parts, theirs, source.spec, at, count)
        if theirs is not None and compared is not None:
            seen, wanted = seen + compared, wanted + piece.rows
        parts.pass_over(at + piece.rows)
        at += piece.rows
    parts.pass_over()  # rows beyond the input's are counted too
    if seen < wanted and count.rows >= chunk.rows:
        count.wrong("input_rows", f"the input has only {seen} of the chunk's {wanted} rows")


def _compare_piece(
    parts: Rows, theirs: Iterator[PieceRows], spec: Spec, at: int, count: ChunkCount
) -> int | None:
    """Rows that were compared, from row `at` of the chunk on; None where the input is damaged."""
    done = 0
    try:
        for piece, first_row, batch in theirs:
            low = 0
            while low < batch.num_rows:
                mine = parts.take(batch.num_rows - low)
                if mine is None:
                    return done
                rows = PieceRows(piece, first_row + low, batch.slice(low, mine.num_rows))
                for kind, row in differences(mine, rows, spec):
                    count.wrong(kind, f"{WORDS[kind]}, first at row {at + done + row} of the chunk, "
                                f"row {rows.first_row + row} of {piece.file.uri}")  # fmt: skip
                low, done = low + mine.num_rows, done + mine.num_rows
    except InputUnreadable as error:
        count.wrong("input_changed", f"its input cannot be read: {error}")
        return None
    return done


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
