"""A challenger: another model on a share of a job's rows, drawn by text hash, to be compared later.

The rows are copied into the challenger's own output, with their ids and carried columns, so that
its job is a job like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.formats.opener import InputOpener, PieceRows, chunk_rows
from headrace.formats.text_column import as_bytes, plain_column
from headrace.output.challenger_record import Challenger, read_challenger
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.store import Store
from schemas.errors import ConfigError, OutputConflict
from schemas.names import output_layout
from schemas.records.job import Job, Spec
from schemas.records.text_hash import share_limit, share_number, text_hash

BATCH_ROWS = 8_192
MOST_PRIORITY = -100


def read_share(text: str) -> float:
    """`5%` or `0.05` as a share.

    Raises:
        ConfigError: it is neither, or not above 0 and at most 1.
    """
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1:
        raise ConfigError(f"--share {text}: write 5% or 0.05, more than 0 and at most 100%")
    return number


def challenger_settings(settings: Settings, model: str, job: Job) -> Settings:
    """The settings of the challenger's job: the same, on the selected rows, after the first job."""
    return settings.model_copy(
        update={
            "model": model, "revision": None, "reuse": None, "limit": None, "pattern": None,
            "literal": True, "wait_for": None, "chunk_rows": None, "chunk_bytes": None,
            "id_column": job.spec.id_column or "id", "on_finish": None,
            "priority": max(MOST_PRIORITY, settings.priority - 1),
        }
    )  # fmt: skip


def draw_rows(
    job: Job,
    store: Store,
    into: Store,
    share: float,
    open_store: Callable[[str], Store],
    note: Callable[[str], None] = lambda line: None,
) -> Challenger:
    """Copy the selected rows of a job's corpus to the output `into`; rows copied before are kept.

    Raises:
        OutputConflict: that output has rows of another job, or of another share.
        ConfigError: no text falls into the share.
        InputChanged, InputUnreadable: the corpus is not the one that was planned.
    """
    if job.spec.text is not None or job.spec.text_pair is not None:
        raise ConfigError(
            "--challenger needs texts that are a column: its rows are drawn by them, and this job "
            "makes them of several"
        )
    known = read_challenger(into)
    if known is not None:
        if (known.job, known.share) != (job.id, share):
            raise OutputConflict(
                f"{into.uri} is a challenger on {known.share:.3%} of job {known.job}; choose "
                "another place with --challenger-output"
            )
        return known
    note(f"reading the corpus for the challenger: {job.rows:,} rows")
    folder = into.scratch()
    path = folder / "sample.parquet"
    rows = _write(path, _drawn(job, store, share, open_store))
    if not rows:
        raise ConfigError(f"--share {share:.3%}: none of the job's texts falls into it")
    into.create_from_file(output_layout.SAMPLE, path)
    path.unlink(missing_ok=True)
    folder.rmdir()
    record = Challenger(job=job.id, output=store.uri, share=share, rows=rows)
    into.create(output_layout.CHALLENGER, record.model_dump_json(indent=1).encode())
    return record


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> int:
    rows, writer = 0, None
    try:
        for batch in batches:
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema, compression="zstd")
            writer.write_batch(batch)
            rows += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _drawn(
    job: Job, store: Store, share: float, open_store: Callable[[str], Store]
) -> Iterator[pa.RecordBatch]:
    plan, opener = PlanTable.load(store), InputOpener(open_store)
    for chunk in plan:
        for found in chunk_rows(opener.unchanged, chunk, job.spec, plan.types, BATCH_ROWS):
            drawn = _in_share(found.batch, job.spec, share)
            if drawn:
                yield _columns(found, job.spec).take(pa.array(drawn))


def _in_share(batch: pa.RecordBatch, spec: Spec, share: float) -> list[int]:
    """The rows whose text is in the share; a null text never is."""
    limit = share_limit(share)
    texts = as_bytes(plain_column(batch, spec.text_column))
    pairs: list[bytes | None] | None = None
    if spec.text_pair_column is not None:
        pairs = as_bytes(plain_column(batch, spec.text_pair_column))
    found = []
    for row, text in enumerate(texts):
        if text is None or (pairs is not None and pairs[row] is None) or not _is_text(text):
            continue
        digest = text_hash(text) if pairs is None else text_hash(text, pairs[row])
        if share_number(digest) < limit:
            found.append(row)
    return found


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(found: PieceRows, spec: Spec) -> pa.RecordBatch:
    """Id, text, pair and carried columns of the rows, under the names that the job has."""
    piece, first, batch = found
    partitions, rows = dict(piece.file.partitions), len(batch)
    columns: dict[str, pa.Array] = {}
    if spec.id_column is None:
        columns["id"] = pa.array(range(first, first + rows), pa.int64())
    for name in (spec.id_column, spec.text_column, spec.text_pair_column, *spec.columns):
        if name is None or name in columns:
            continue
        if name in partitions:
            columns[name] = pa.repeat(pa.scalar(partitions[name], pa.string()), rows)
        else:
            columns[name] = batch.column(batch.schema.get_field_index(name))
    return pa.RecordBatch.from_pydict(columns)
