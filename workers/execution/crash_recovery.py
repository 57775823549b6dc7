"""Recovers the chunks of a crashed child process at once, without waiting for the lease to expire.

The lease is released first, then the chunks are published again, as in a drain. If Redis or the
store is unreachable, the controller does it when the lease expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.coordination.attempts import (
    attempt_of_death,
    read_attempts,
    retry_decision,
)
from headrace.coordination.leases import LeaseBook, Mark
from headrace.coordination.live_workers import work_was_lost
from headrace.coordination.redis_clock import redis_now
from headrace.process.logs import get_logger
from headrace.queue.queue import MessageQueue
from headrace.redis_client import RedisClient
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.crash_trace import record_crash
from schemas.errors import error_type_of
from schemas.names import output_layout
from schemas.records.manifest import Attempt
from schemas.records.message import parse_message
from workers.execution.job_cache import JobCache, JobContext

log = get_logger(__name__)


def recover_from_crash(
    client: RedisClient,
    queue: MessageQueue,
    worker: str,
    body: Any,
    jobs: JobCache,
    lease_s: float,
    emitter: Emitter | None = None,
    *,
    keep_traces: bool = True,
) -> int:
    """Record, release and republish the chunks of this worker's dead child; returns how many.

    Chunks that must be parked or must wait are left to the controller.
    """
    try:
        message = parse_message(body)
        work = jobs.find(message)
        book = LeaseBook(client, message.key, lease_s)
        held = {c: m for c, m in book.marks().items() if c in message.chunks and m.worker == worker}
        again = []
        record = partial(record_crash, emitter=emitter or Telemetry(), keep=keep_traces)
        for chunk, mark in held.items():
            if _tries_again(work, chunk, mark, worker, record, redis_now(client)):
                again.append(chunk)
            book.release(chunk, mark.attempt)
        work_was_lost(client, worker)
        for chunk in again:  # each in a message of its own: it may crash the next worker too
            alone = message.model_copy(update={"chunks": (chunk,)})
            queue.send(alone, work.job.options.queue)
        return len(held)
    except Exception as error:
        log.warning("worker.lost", worker=worker, error_type=error_type_of(error))
        return 0


def _tries_again(
    work: JobContext,
    chunk: int,
    mark: Mark,
    worker: str,
    record: Callable[..., Attempt],
    redis_at: float,
) -> bool:
    """Record the crash; returns whether the chunk can be sent again at once."""
    if work.store.head(output_layout.part(chunk)) is not None:
        return False
    attempt = attempt_of_death(chunk, mark, time.time(), f"parent of {worker}", redis_at)
    if attempt is not None:
        record(work.job, work.store, attempt, mark)
        log.warning(
            "attempt.recorded", job=work.job.id, chunk=chunk, cause=attempt.cause, worker=worker
        )
    attempts = read_attempts(work.store, chunk)
    decision = retry_decision(attempts, work.chunk(chunk).rows, work.job.options.max_attempts, 0.0)
    return decision.parked is None and decision.wait_s == 0.0
