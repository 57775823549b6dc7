"""The facts of a report, read from an output; how much is read is limited, whatever the size of the
job.

All receipts are read, but only a limited number of traces and parts, spread evenly over the job.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from headrace.output.job_record import require_job
from headrace.storage.store import PARALLEL_READS, Store
from producers.records.manifest import build_manifest, parts_of, receipt_of_part
from producers.records.training_result import result_of
from producers.report.from_parts import ErrorClass, ReadText, RowSample, read_errors, sample_rows
from producers.report.from_traces import (
    FailedAttempt,
    StageTimes,
    batch_seconds,
    failed_attempts,
    mean_stages,
    read_traces,
)
from producers.report.night_before import Night
from producers.report.shown_rows import FailedIds, ShownRow, failed_ids, show_rows
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import (
    Manifest,
    Receipt,
    parse_manifest,
)
from schemas.records.training import TrainingResult
from schemas.training_tasks import JOB_TASKS


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the page shows."""

    job: Job
    manifest: Manifest
    receipts: tuple[Receipt, ...]
    stages: tuple[StageTimes, ...]
    batch_s: np.ndarray
    failed: tuple[FailedAttempt, ...]
    sample: RowSample
    errors: tuple[ErrorClass, ...]
    failed_ids: FailedIds
    training: TrainingResult | None = None
    """Of a job that trains, once its model is there."""
    shown: tuple[ShownRow, ...] = ()
    """Rows with their texts, where texts were asked for."""
    before: Night | None = None
    """An earlier job, to compare with."""


def read_facts(store: Store, now_s: float, ask: ReadText | None = None) -> Facts:
    """The facts of a job that has ended, or of a running job as of `now_s`.

    `ask` reads a row's text from the input; without it the facts hold no text.

    Raises:
        JobNotFound: the output holds no job.
    """
    job = require_job(store)
    receipts = _receipts(store, job)
    manifest = _manifest(store) or build_manifest(
        job, receipts, [], finished_s=now_s, versions=job.versions, stopped=("running", "")
    )
    traces = read_traces(store)
    return Facts(
        job=job,
        manifest=manifest,
        receipts=tuple(receipts),
        stages=tuple(mean_stages(traces)),
        batch_s=batch_seconds(traces),
        failed=tuple(failed_attempts(traces)),
        sample=sample_rows(store, job, [r.chunk for r in receipts if r.rows]),
        errors=tuple(read_errors(store, job, receipts, ask)),
        failed_ids=failed_ids(store, receipts),
        training=result_of(store) if job.spec.task in JOB_TASKS.values() else None,
        shown=() if ask is None else tuple(show_rows(store, job, receipts, ask)),
    )


def _manifest(store: Store) -> Manifest | None:
    data = store.read(output_layout.MANIFEST)
    return parse_manifest(data, store.uri) if data is not None else None


def _receipts(store: Store, job: Job) -> list[Receipt]:
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return sorted(
            pool.map(lambda c: _receipt(store, job, c), parts_of(store)), key=lambda r: r.started_s
        )


def _receipt(store: Store, job: Job, chunk: int) -> Receipt:
    data = store.read(output_layout.receipt(chunk))
    if data is not None:
        try:
            return Receipt.model_validate_json(data)
        except ValidationError:
            pass
    return receipt_of_part(store, job, chunk)
