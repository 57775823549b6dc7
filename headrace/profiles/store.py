"""Reads profiles of an output: of a chunk, computed from its part if lost, and of the whole job."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.profiles.measure import ProfileBuilder
from headrace.profiles.profile import Profile, TextCounts, merge, parse_profile
from headrace.storage.store import PARALLEL_READS, Store
from headrace.tasks.catalog import task_spec
from headrace.tasks.spec import TaskSpec
from schemas.errors import HeadraceError, StorageError
from schemas.names import output_layout
from schemas.records import part_schema
from schemas.records.job import Job


def read_job_profile(store: Store, job: Job) -> Profile:
    """The profile of a whole job; that of a job which has ended is kept for the next reader.

    Raises:
        StorageError: the store fails, or a part cannot be read.
    """
    kept = store.read(output_layout.PROFILE)
    if kept is not None:
        with contextlib.suppress(StorageError):
            return parse_profile(kept, output_layout.PROFILE)
    chunks = [
        chunk
        for info in store.list(output_layout.DATA)
        if (chunk := output_layout.chunk_of_part(info.name)) is not None
    ]
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        whole = merge(pool.map(lambda chunk: read_profile(store, job, chunk), chunks))
    if len(chunks) == job.chunks:
        with contextlib.suppress(HeadraceError):  # an output that may only be read
            store.replace(output_layout.PROFILE, whole.to_bytes())
    return whole


def read_profile(store: Store, job: Job, chunk: int) -> Profile:
    """The profile of a chunk that has a part; made from the part if there is none to read.

    Raises:
        StorageError: the store fails, or the part cannot be read.
    """
    name = output_layout.profile(chunk)
    data = store.read(name)
    if data is not None:
        with contextlib.suppress(StorageError):
            return parse_profile(data, f"{store.uri}/{name}")
    return profile_of_part(store, task_spec(job.spec.task), chunk)


def profile_of_part(store: Store, spec: TaskSpec, chunk: int) -> Profile:
    """The profile from the part alone: without tokens, which need the texts and the tokenizer.

    Raises:
        StorageError: the part is not there, or cannot be read.
    """
    builder = ProfileBuilder(spec)
    name = output_layout.part(chunk)
    try:
        with store.open(name) as file, pq.ParquetFile(file) as part:
            for batch in _batches(part, spec):
                builder.add_rows(batch)
            kept = (part.metadata.metadata or {}).get(part_schema.META_TEXTS.encode())
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{store.uri}/{name} cannot be read: {error}") from error
    if kept is not None:
        with contextlib.suppress(ValueError):
            builder.profile.texts = TextCounts.model_validate(json.loads(kept))
    return merge([builder.finish()])


def _batches(part: pq.ParquetFile, spec: TaskSpec) -> Iterator[pa.RecordBatch]:
    """The columns that are counted, a row group at a time, so that memory stays small."""
    wanted = {"n_tokens", "truncated", "status", "error_type", *spec.columns}
    names = [name for name in part.schema_arrow.names if name in wanted]
    for group in range(part.num_row_groups):
        table = part.read_row_group(group, columns=names, use_threads=False)
        yield from table.unify_dictionaries().combine_chunks().to_batches()
