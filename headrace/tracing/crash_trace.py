"""Writes the trace of an attempt that could not write its own, since its worker was killed.

The process that sees the crash (the worker's parent, the next worker, or the controller) calls
this. The attempt's mark in Redis has its trace id, its start and its last stage. How long its
stages took is unknown; the span ends when the crash is detected.
"""

from __future__ import annotations

from headrace.coordination.attempts import record_attempt
from headrace.coordination.leases import Mark
from headrace.process.logs import get_logger
from headrace.storage.store import Store
from headrace.tracing.chunk_trace import ChunkTrace, Emitter
from headrace.tracing.spans import safe_message, traceparent_of
from headrace.tracing.trace_file import SpanRow, spans_to_parquet
from schemas.errors import HeadraceError
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import Attempt

log = get_logger(__name__)


def record_crash(
    job: Job, store: Store, death: Attempt, mark: Mark, emitter: Emitter, *, keep: bool = True
) -> Attempt:
    """Record the attempt; the first process to do so also exports and saves its span.

    With `keep` the span is saved under `_traces/`. Exporting and saving are best effort.
    """
    recorded = record_attempt(store, death)
    if (recorded.seen_by, recorded.at_s) == (death.seen_by, death.at_s):
        spans = spans_of_crash(job, recorded, mark, emitter)
        if keep:
            _keep(job, store, recorded, spans)
    return recorded


def _keep(job: Job, store: Store, attempt: Attempt, spans: list[SpanRow]) -> None:
    try:
        store.create(output_layout.trace(attempt.chunk, attempt.attempt), spans_to_parquet(spans))
    except HeadraceError as error:
        log.warning(
            "trace.not_written", job=job.id, chunk=attempt.chunk, reason=safe_message(error)
        )


def spans_of_crash(job: Job, attempt: Attempt, mark: Mark, emitter: Emitter) -> list[SpanRow]:
    """One span `process {queue}` with the outcome `worker_lost`."""
    begun_s = mark.begun_s or mark.since_s or attempt.at_s
    observe = ChunkTrace(
        emitter,
        job=job.id,
        chunk=attempt.chunk,
        attempt=attempt.attempt,
        queue=job.options.queue,
        traceparent=traceparent_of(job),
        trace_id=mark.trace_id or None,
        started_ns=int(begun_s * 1e9),
        worker=attempt.worker,
        model=job.spec.model.uri,
        model_revision=job.spec.model.revision,
        task=job.spec.task,
        dtype=job.spec.dtype,
        attempt_number=attempt.number,
    )
    return observe.finish(
        "worker_lost",
        cause=attempt.cause,
        ended_ns=int(attempt.at_s * 1e9),
        last_stage=attempt.stage,
        seen_by=attempt.seen_by,
        suspect_rows=None if attempt.rows is None else len(attempt.rows),
    )
