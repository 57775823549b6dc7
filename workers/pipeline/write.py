"""Writes a part: complete in a scratch file, checked, then published under its name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.storage.store import Store
from schemas.errors import DiskFull, StorageError
from schemas.names import output_layout
from schemas.records import part_schema
from schemas.records.chunk import Chunk
from schemas.records.job import Job
from schemas.records.model_key import engine_name
from workers.pipeline.rows import ChunkStats

# Chosen: small enough for a reader to skip and for a worker's memory.
GROUP_ROWS = 65_536
GROUP_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit: whether this attempt's part is the published one."""

    won: bool
    bytes: int
    sha256: str


class PartSink:
    """Writes one part; used by one thread at a time. `commit` or `discard` ends it."""

    def __init__(
        self,
        store: Store,
        job: Job,
        chunk: Chunk,
        attempt: str,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Everything that touches the disk is inside a context from `around`."""
        self._store = store
        self._job = job
        self._chunk = chunk
        self._attempt = attempt
        self._around = around
        with around():
            self._folder: Path = store.scratch()
        self._path = self._folder / f"part-{chunk.number:05d}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Write the next rows; raises DiskFull when there is no room for them."""
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self._waiting_bytes += rows.nbytes
        if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            self._flush()

    def commit(
        self,
        stats: ChunkStats,
        facts: dict[str, str],
        before_name: Callable[[], None] = lambda: None,
    ) -> Committed:
        """Close the file, check it, and publish it under its name if no part has that name yet.

        `before_name` is called when the part is complete and not yet published.

        Raises:
            StorageError: the file does not read back as the chunk's rows.
        """
        with self._around():
            self._close(self._metadata(stats, facts))
            digest, size = _sha256(self._path), self._path.stat().st_size
            before_name()
            name = output_layout.part(self._chunk.number)
            won = self._store.create_from_file(name, self._path)
            self._leave()
        return Committed(won, size, digest)

    def _close(self, metadata: dict[str, str]) -> None:
        with _disk_errors(self._path):
            self._flush()
            if self._writer is None:
                raise StorageError(f"chunk {self._chunk.number} came to no rows at all")
            self._writer.add_key_value_metadata(metadata)
            self._writer.close()
        self._check()

    def discard(self) -> None:
        """Delete what was written; safe at any time and twice."""
        if self._writer is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
        self._leave()

    def _leave(self) -> None:
        """A scratch folder of this sink alone."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting).unify_dictionaries()
        with self._around(), _disk_errors(self._path):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
            self._writer.write_table(table, row_group_size=GROUP_ROWS)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def _metadata(self, stats: ChunkStats, facts: dict[str, str]) -> dict[str, str]:
        job, chunk = self._job, self._chunk
        sources = chunk.sources()
        several = {part_schema.META_SOURCES: json.dumps(sources)} if len(sources) > 1 else {}
        return {
            part_schema.META_JOB: job.id,
            part_schema.META_CHUNK: str(chunk.number),
            part_schema.META_ATTEMPT: self._attempt,
            part_schema.META_FILE: sources[0][0],
            part_schema.META_FIRST_ROW: str(sources[0][1]),
            **several,
            part_schema.META_ROWS: str(stats.rows),
            part_schema.META_OK: str(stats.ok),
            part_schema.META_ERRORS: json.dumps(stats.errors_by_type, sort_keys=True),
            part_schema.META_MODEL: job.spec.model.uri,
            part_schema.META_REVISION: job.spec.model.revision,
            part_schema.META_TASK: job.spec.task,
            part_schema.META_DTYPE: job.spec.dtype,
            part_schema.META_ENGINE: engine_name(job.spec),
            **facts,
        }

    def _check(self) -> None:
        """Read the footer back before the part is published."""
        found = pq.read_metadata(self._path).num_rows
        if found != self._chunk.rows:
            raise StorageError(
                f"chunk {self._chunk.number} has {self._chunk.rows} rows and its part came to {found}"
            )


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"no space left for {path.parent}: free some, and the job continues"
            ) from error
        raise StorageError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
