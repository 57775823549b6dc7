"""Commits a chunk: publishes its part, then writes the receipt, counters and trace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from headrace.coordination.job_counters import count_committed_chunk
from headrace.process.logs import get_logger
from headrace.profiles.profile import Profile
from headrace.profiles.vocabulary import Vocabulary, save_vocabulary
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.trace_file import SpanRow, spans_to_parquet
from schemas.errors import HeadraceError, error_type_of
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records import part_schema
from schemas.records.chunk import Chunk
from schemas.records.manifest import Receipt
from schemas.versions import versions
from workers.execution.job_cache import JobContext
from workers.execution.lease_keeper import ChunkControl, LeaseKeeper
from workers.execution.metrics import record_device, record_generation, record_rows
from workers.execution.runtime import Runtime
from workers.pipeline.rows import ChunkStats
from workers.pipeline.write import Committed, PartSink

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """A chunk whose rows are all in its sink."""

    chunk: Chunk
    control: ChunkControl
    observe: ChunkTrace
    sink: PartSink
    stats: ChunkStats
    started_at: float
    """Seconds since the epoch."""
    profile: Profile | None = None


OnFailure = Callable[[Chunk, ChunkControl, Exception], None]
"""Records an attempt that ended with an error, and releases its chunk."""


def commit(
    it: Finished, work: JobContext, runtime: Runtime, held: LeaseKeeper, failed: OnFailure
) -> None:
    """Publish the part, report it, and release the lease; else end the attempt as failed."""
    try:
        _commit(it, work, runtime, held)
    except Exception as error:
        it.sink.discard()
        spans = it.observe.finish("error", error)
        keep_trace(work, runtime, it.chunk.number, it.control.mark.attempt, spans)
        failed(it.chunk, it.control, error)


def _commit(it: Finished, work: JobContext, runtime: Runtime, held: LeaseKeeper) -> None:
    """The same. Raises StorageError if this attempt could not publish the part."""
    number, attempt = it.chunk.number, it.control.mark.attempt
    facts = {
        part_schema.META_TRACE: it.observe.trace_id,
        part_schema.META_VERSIONS: json.dumps(versions()),
        part_schema.META_STATS: json.dumps(_stats(it, runtime)),
    }
    if it.profile is not None and it.profile.texts is not None:
        facts[part_schema.META_TEXTS] = it.profile.texts.model_dump_json()
    with it.observe("commit") as stage:
        committed = it.sink.commit(it.stats, facts, lambda: runtime.fault("uploaded"))
        stage.add(bytes=committed.bytes)
    runtime.fault("committed" if committed.won else "dropped")
    receipt = _receipt(it, committed, runtime)
    rows = it.observe.finish(
        "ok" if committed.won else "already_done",
        rows=it.stats.rows,
        ok_rows=it.stats.ok,
        error_rows=it.stats.errors,
        truncated_rows=it.stats.truncated,
        tokens=it.stats.tokens,
        padding_tokens=it.stats.padding_tokens,
        batches=it.stats.batches,
        computed_rows=it.stats.computed,
        reused_rows=it.stats.reused,
        duplicate_rows=it.stats.duplicates,
        halvings=it.stats.oom_halvings,
        batch_fill=it.stats.batch_fill,
        **it.stats.generation.attributes(),
    )
    _measure(it, work, runtime, won=committed.won)
    if committed.won:
        _tell(receipt, work, runtime)
        _keep_profile(it, work)
    else:
        log.info("chunk.skipped", job=work.job.id, chunk=number, reason="another part exists")
        runtime.telemetry.record(names.REDELIVERIES, 1, reason="late")
    held.release(number)
    runtime.brake.succeeded()
    runtime.fault("released")
    keep_trace(work, runtime, number, attempt, rows)
    with runtime.telemetry.in_trace(it.observe.trace_id, it.observe.span_id):
        log.info(
            "chunk.committed",
            job=work.job.id,
            chunk=number,
            rows=receipt.rows,
            errors=receipt.errors,
            seconds=round(receipt.seconds, 3),
        )


def _measure(it: Finished, work: JobContext, runtime: Runtime, *, won: bool) -> None:
    telemetry, identity = runtime.telemetry, runtime.identity
    record_rows(telemetry, it.stats, work.job.id, it.chunk.number, identity.device, won=won)
    forward_s = it.observe.stages_s().get("forward", 0.0)
    if won:
        record_generation(telemetry, it.stats.generation, identity.name, identity.device)
    record_device(telemetry, runtime.device_use, identity.name, identity.device, forward_s)


def keep_trace(
    work: JobContext, runtime: Runtime, chunk: int, attempt: str, spans: Sequence[SpanRow]
) -> None:
    """Write an attempt's spans under `_traces/`, however it ended; best effort."""
    if runtime.settings.traces:
        name = output_layout.trace(chunk, attempt)
        _best_effort(lambda: work.store.create(name, spans_to_parquet(spans)))


def keep_vocabulary(work: JobContext, vocabulary: Vocabulary | None) -> None:
    """Keep the words behind the job's token ids, once per process; best effort."""
    if vocabulary is not None and work.note_once("vocabulary"):
        _best_effort(lambda: save_vocabulary(work.store, vocabulary))


def _keep_profile(it: Finished, work: JobContext) -> None:
    """Best effort to the last: the part is committed, and a lost profile is made from it."""
    if it.profile is None:
        return
    try:
        work.store.replace(output_layout.profile(it.chunk.number), it.profile.to_bytes())
    except Exception as error:
        log.warning("profile.failed", error_type=error_type_of(error))


def _stats(it: Finished, runtime: Runtime) -> dict[str, object]:
    """What a receipt holds besides the counts; kept in the part so that it can be rebuilt."""
    s = it.stats
    return {
        "tokens": s.tokens, "reused": s.reused, "computed": s.computed, "padding_tokens": s.padding_tokens,
        "truncated": s.truncated, "batches": s.batches, "worker": runtime.identity.name,
        "device": runtime.identity.device, "started_s": it.started_at,
        "seconds": time.time() - it.started_at,
        "stages_s": {k: round(v, 4) for k, v in it.observe.stages_s().items()},
        **({"tokenizer": s.tokenizer} if s.tokenizer else {}),
        **({"warnings": s.warnings} if s.warnings else {}),
    }  # fmt: skip


def _receipt(it: Finished, committed: Committed, runtime: Runtime) -> Receipt:
    return Receipt.model_validate(
        {
            **_stats(it, runtime),
            "chunk": it.chunk.number,
            "rows": it.stats.rows,
            "ok": it.stats.ok,
            "errors": it.stats.errors,
            "errors_by_type": it.stats.errors_by_type,
            "bytes": committed.bytes,
            "sha256": committed.sha256,
            "attempt": it.control.mark.attempt,
            "trace_id": it.observe.trace_id,
        }
    )


def _tell(receipt: Receipt, work: JobContext, runtime: Runtime) -> None:
    """Write the receipt and live counters. They are advisory: a failure here costs only speed."""
    data = receipt.model_dump_json().encode()
    _best_effort(lambda: work.store.replace(output_layout.receipt(receipt.chunk), data))
    try:
        count_committed_chunk(runtime.client, work.job.key, receipt)
    except redis.RedisError as error:
        runtime.reports.redis_away(error)


def _best_effort(write: Callable[[], object]) -> None:
    try:
        write()
    except HeadraceError as error:
        log.warning("store.retried", error_type=error_type_of(error))
