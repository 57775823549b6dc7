"""Handles attempts that end without a part: failed, stopped, lease lost or device lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from headrace.coordination.attempts import attempt_of_death, record_attempt
from headrace.coordination.leases import FORWARD, HELD, Mark
from headrace.process.logs import get_logger
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.crash_trace import record_crash
from schemas.errors import (
    DeviceLost,
    EngineDied,
    HeadraceError,
    InputChanged,
    LeaseLost,
    ModelChanged,
    ModelError,
    error_type_of,
)
from schemas.names import output_layout
from schemas.records.chunk import Chunk
from schemas.records.manifest import Attempt
from schemas.records.message import ScoreChunk
from workers.execution.commit import keep_trace
from workers.execution.job_cache import JobContext
from workers.execution.lease_keeper import ChunkControl, LeaseKeeper
from workers.execution.runtime import Runtime
from workers.pipeline.run import StartedChunk

log = get_logger(__name__)


@dataclass(slots=True)
class ChunkInProgress:
    """A leased chunk that is being read."""

    chunk: Chunk
    control: ChunkControl
    observe: ChunkTrace
    started: StartedChunk | None
    """None where nothing is read ahead: a training."""
    started_at: float
    """Seconds since the epoch."""


def failed_attempt(chunk: int, mark: Mark, error: Exception, worker: str, now_at: float) -> Attempt:
    """The record of an attempt that ended in this error. Pure.

    Messages of other libraries are recorded only if no row had been read: later ones may hold text
    of the corpus. An engine's process that ended is recorded as the crash of a worker: its current
    rows are suspects.
    """
    is_safe = isinstance(error, HeadraceError) or mark.stage == HELD
    name = type(error).__name__
    is_crash = isinstance(error, EngineDied)
    return Attempt(
        chunk=chunk,
        number=0,
        attempt=mark.attempt,
        cause="worker_lost" if is_crash else error_type_of(error),
        rows=(mark.rows or ()) if is_crash and mark.stage == FORWARD else (),
        message=_words(error) if is_safe else f"{name} (see the worker's log)",
        worker=worker,
        stage=mark.stage,
        advanced=mark.advanced,
        retryable=not isinstance(error, InputChanged | ModelChanged | ModelError),
        at_s=now_at,
        seen_by=worker,
    )


def _words(error: Exception) -> str:
    """The error's message; for an error of another library, with the name of its class."""
    if isinstance(error, HeadraceError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:500]


@dataclass(frozen=True, slots=True)
class AttemptEnds:
    """Records and releases the chunks of one message that do not end in a part."""

    message: ScoreChunk
    context: JobContext
    runtime: Runtime
    leases: LeaseKeeper

    def crashed(self, chunk: int, mark: Mark) -> None:
        """Record the crash of an earlier attempt that left only its mark."""
        job, store, runtime = self.context.job, self.context.store, self.runtime
        crash = attempt_of_death(
            chunk, mark, time.time(), runtime.identity.name, self.leases.clock.now()
        )
        if crash is not None and store.head(output_layout.part(chunk)) is None:
            keep = runtime.settings.traces
            record_crash(job, store, crash, mark, runtime.telemetry, keep=keep)

    def failed(self, chunk: Chunk, control: ChunkControl, error: Exception) -> None:
        """Record the attempt, then release the chunk, so that the next worker finds the reason.

        An attempt that met a store that is away is not recorded.
        """
        if isinstance(error, HeadraceError) and error.may_pass:
            self._store_away(chunk, control, error)
            return
        attempt = failed_attempt(
            chunk.number, control.mark, error, self.runtime.identity.name, time.time()
        )
        log.error(
            "chunk.failed",
            job=self.context.job.id,
            chunk=chunk.number,
            error_type=attempt.cause,
            error_message=attempt.message,
            trace_id=control.mark.trace_id or None,
            error=None if isinstance(error, HeadraceError) else error,
        )
        self.runtime.reports.report_failure(
            self.context.job.key, attempt.chunk, attempt.cause, attempt.message
        )
        try:
            record_attempt(self.context.store, attempt)
        except HeadraceError as away:
            log.error(
                "chunk.failed",
                chunk=chunk.number,
                error_type=error_type_of(away),
                error_message=str(away),
            )
        self.leases.release(chunk.number)
        self.runtime.brake.failed()

    def _store_away(self, chunk: Chunk, control: ChunkControl, error: HeadraceError) -> None:
        """Release the chunk and count nothing: the store is at fault, and waited for."""
        self.runtime.brake.failed(store_is_away=True)
        job, why = self.context.job, str(error)
        log.warning(
            "store.retried", job=job.id, chunk=chunk.number, error_type=error.error_type,
            error_message=why, trace_id=control.mark.trace_id or None,
        )  # fmt: skip
        self.runtime.reports.report_failure(
            job.key, chunk.number, error.error_type, why, waits=True
        )
        self.leases.release(chunk.number)

    def failed_at_work(self, it: ChunkInProgress, error: Exception) -> None:
        """The same, for a chunk whose trace has been started."""
        self.trace_ended(it, "error", error)
        self.failed(it.chunk, it.control, error)

    def lease_lost(self, it: ChunkInProgress, error: LeaseLost) -> None:
        """Another attempt holds the chunk; this one does not count."""
        self.trace_ended(it, "lease_lost", error)
        self.leases.release(it.chunk.number)
        log.warning("lease.lost", job=self.context.job.id, chunk=it.chunk.number)

    def stopped(
        self, begun: Sequence[ChunkInProgress], waiting: Sequence[Chunk], reason: str
    ) -> None:
        """Release all chunks held; after a drain they are published again."""
        for it in begun:
            if it.started is not None:
                it.started.close()
            self.trace_ended(it, "stopped", stop_reason=reason)
        numbers = [it.chunk.number for it in begun] + [chunk.number for chunk in waiting]
        self._release(numbers, publish=reason == "drain")
        log.info("chunk.released", job=self.context.job.id, chunks=len(numbers), reason=reason)

    def device_lost(self, error: DeviceLost) -> NoReturn:
        """End this process at once; its parent records the current rows, as after any crash."""
        log.error("device.lost", job=self.context.job.id, error_message=str(error))
        self.runtime.telemetry.flush(1.0)
        self.runtime.exit_process()

    def no_device(self, waiting: Sequence[Chunk], error: Exception) -> None:
        """Release the chunks and end this worker: its device is at fault, not the model."""
        numbers = [chunk.number for chunk in waiting]
        self._release(numbers, publish=True)
        log.error("device.lost", job=self.context.job.id, error_message=str(error)[:500])
        why = f"no model can be loaded on {self.runtime.identity.device}: {error}"
        self.runtime.reports.report_failure(self.context.job.key, numbers[0], "device_lost", why)
        self.runtime.end_worker()

    def trace_ended(
        self, it: ChunkInProgress, outcome: str, error: BaseException | None = None, **facts: Any
    ) -> None:
        """Close and save the trace of an attempt that produced no part."""
        spans = it.observe.finish(outcome, error, **facts)
        keep_trace(self.context, self.runtime, it.chunk.number, it.control.mark.attempt, spans)

    def _release(self, numbers: list[int], *, publish: bool) -> None:
        """Release leases first, then publish, so that the receiving worker finds the chunks free."""
        for number in numbers:
            self.leases.release(number)
        if publish:
            queue = self.context.job.options.queue
            self.runtime.reports.publish_again(self.message, numbers, queue)
