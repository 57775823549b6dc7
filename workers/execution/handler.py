"""What a worker does with one message: lease, read, compute, commit, release, chunk by chunk.

While one chunk is on the device, the next is being read and tokenized and the last is being
committed, so that the device waits for neither.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from headrace.coordination.attempts import (
    SuspectRows,
    attempt_of_death,
    read_attempts,
    record_attempt,
    suspect_rows,
)
from headrace.coordination.leases import Mark
from headrace.process.logs import get_logger
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.crash_trace import record_crash
from schemas.errors import (
    DeviceLost,
    HeadraceError,
    InputChanged,
    LeaseLost,
    MessageRejected,
    ModelChanged,
    OutOfReach,
    Stopped,
    error_type_of,
)
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records.chunk import Chunk
from schemas.records.job import Job
from schemas.records.manifest import Attempt
from schemas.records.message import ScoreChunk, parse_message
from workers.devices.device import (
    device_inside,
    dtypes_of,
    is_lost,
    not_served,
)
from workers.execution.commit import (
    Finished,
    commit,
    keep_trace,
)
from workers.execution.job_cache import JobContext
from workers.execution.lease_keeper import ChunkControl, LeaseKeeper
from workers.execution.presence import facts_of
from workers.execution.runtime import Runtime
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.read import (
    FIRST_ROWS,
    open_input,
    read_windows,
)
from workers.pipeline.reuse import Reuse
from workers.pipeline.run import (
    StartedChunk,
    begin,
    finish,
)
from workers.pipeline.write import PartSink

log = get_logger(__name__)


@dataclass(slots=True)
class ChunkInProgress:
    """A leased chunk that is being read."""

    chunk: Chunk
    control: ChunkControl
    observe: ChunkTrace
    begun: StartedChunk
    started_s: float


def handle(body: Any, runtime: Runtime, message_id: str | None = None) -> None:
    """Carry one message out; never raises for what belongs to a chunk or a message."""
    received_ns = time.time_ns()
    runtime.fault("received")
    try:
        message = parse_message(body)
        work = runtime.jobs.find(message)
        _check_served(work.job, runtime)
    except OutOfReach as error:
        runtime.refuse(message, str(error))
        return
    except MessageRejected as error:
        runtime.reject(body, str(error))
        return
    except HeadraceError as error:  # the store is away: the controller sends it again
        log.error("chunk.failed", error_type=error_type_of(error), error_message=str(error))
        return
    runtime.fault("acknowledged")
    held = LeaseKeeper(
        runtime.client,
        work.job.key,
        runtime.identity.name,
        runtime.terms,
        runtime.drain,
        on_redis_away=runtime.redis_away,
        facts=facts_of(runtime.settings),
        flags_in_store=lambda: flags_in(work.store),
    )
    with held:
        try:
            MessageHandler(message, work, runtime, held, received_ns, message_id).go()
        except HeadraceError as error:  # the store again: leases go back, the controller sends it
            log.error("chunk.failed", error_type=error_type_of(error), error_message=str(error))


def _check_served(job: Job, runtime: Runtime) -> None:
    """Nothing, when this worker's device has the job's precision: else another may have it.

    Raises:
        OutOfReach: it has not.
    """
    device, dtype = runtime.identity.device, job.spec.dtype
    if task_spec(job.spec.task).needs_model and dtype not in dtypes_of(device):
        raise OutOfReach(f"job {job.id} wants {not_served(dtype, device)}")


def flags_in(store: Store) -> set[str]:
    """What holds a job back, as its output has it: `cancelled`, `paused`. Raises StorageError."""
    flags = {"cancelled": output_layout.CANCELLED, "paused": output_layout.PAUSED}
    return {flag for flag, name in flags.items() if store.head(name) is not None}


class MessageHandler:
    """The chunks of one message, from lease to commit."""

    def __init__(
        self,
        message: ScoreChunk,
        work: JobContext,
        runtime: Runtime,
        held: LeaseKeeper,
        received_ns: int,
        message_id: str | None = None,
    ) -> None:
        self._message = message
        self._work = work
        self._runtime = runtime
        self._held = held
        self._received_ns = received_ns
        self._message_id = message_id
        self._waiting: list[tuple[Chunk, ChunkControl]] = []

    def go(self) -> None:
        if self._is_off():
            return
        self._waiting = list(self._lease())
        if not self._waiting:
            return
        self._held.loaded(self._runtime.loaded(self._work.job))
        self._held.say_busy()
        self._runtime.fault("leased")
        try:
            engine = self._runtime.engine(self._work.job)
        except Exception as error:
            if is_lost(device_inside(self._runtime.identity.device)):
                self._leave_to_others(error)
                return
            # every chunk in hand shares the model's fate
            for chunk, control in self._waiting:
                self._failed(chunk, control, error)
            return
        self._held.loaded(self._runtime.loaded(self._work.job))
        with ThreadPoolExecutor(1, thread_name_prefix="headrace-commit") as committer:
            self._each(engine, committer)

    def _is_off(self) -> bool:
        """Whether the job was cancelled or paused, maybe while this worker was down."""
        return bool(flags_in(self._work.store))

    def _lease(self) -> Iterator[tuple[Chunk, ChunkControl]]:
        for number in self._message.chunks:
            chunk = self._work.chunk(number)
            control, dead = self._held.take(number, chunk.rows, uuid.uuid4().hex[:16])
            if dead is not None:
                death = attempt_of_death(number, dead, time.time(), self._runtime.identity.name)
                if death is not None and self._work.store.head(output_layout.part(number)) is None:
                    self._record_death(death, dead)
            if control is None:
                log.info("chunk.skipped", job=self._work.job.id, chunk=number, reason="leased")
                self._runtime.telemetry.record(names.REDELIVERIES, 1, reason="leased")
            else:
                yield chunk, control

    def _record_death(self, death: Attempt, mark: Mark) -> None:
        work, runtime = self._work, self._runtime
        keep = runtime.settings.traces
        record_crash(work.job, work.store, death, mark, runtime.telemetry, keep=keep)

    def _each(self, engine: LoadedTask, committer: ThreadPoolExecutor) -> None:
        commits: list[Future[None]] = []
        current = self._next(engine)
        while current is not None:
            ahead = self._next(engine)
            try:
                commits.append(self._compute(current, engine, committer))
            except Stopped as stop:
                self._stop(current, ahead, stop.reason)
                break
            except DeviceLost as lost:
                for done in commits:  # they need no device
                    done.result()
                self._abandon(lost)
            except LeaseLost as lost:
                self._end(current, "lease_lost", lost)
                self._held.release(current.chunk.number)
                log.warning("lease.lost", job=self._work.job.id, chunk=current.chunk.number)
            except Exception as error:
                self._end(current, "error", error)
                self._failed(current.chunk, current.control, error)
            for done in commits[:-1]:
                done.result()  # at most one commit is behind
            commits = commits[-1:]
            current = ahead
        for done in commits:
            done.result()

    def _next(self, engine: LoadedTask) -> ChunkInProgress | None:
        """Begin the next chunk that nobody has done yet."""
        while self._waiting:
            chunk, control = self._waiting.pop(0)
            try:
                if self._work.store.head(output_layout.part(chunk.number)) is None:
                    return self._begin(chunk, control, engine)
                log.info("chunk.skipped", job=self._work.job.id, chunk=chunk.number, reason="done")
                self._runtime.telemetry.record(names.REDELIVERIES, 1, reason="done")
                self._held.release(chunk.number)
            except Exception as error:
                self._failed(chunk, control, error)
        return None

    def _begin(self, chunk: Chunk, control: ChunkControl, engine: LoadedTask) -> ChunkInProgress:
        job, store, runtime = self._work.job, self._work.store, self._runtime
        attempts = read_attempts(store, chunk.number)
        observe = ChunkTrace(
            runtime.telemetry,
            job=job.id,
            chunk=chunk.number,
            attempt=control.mark.attempt,
            queue=job.options.queue,
            traceparent=self._message.traceparent,
            received_ns=self._received_ns,
            worker=runtime.identity.name,
            device=runtime.identity.device,
            model=job.spec.model.uri,
            model_revision=job.spec.model.revision,
            task=job.spec.task,
            dtype=job.spec.dtype,
            attempt_number=len(attempts) + 1,
        )
        observe.set(**{names.MESSAGING_MESSAGE_ID: self._message_id})
        control.begin(observe.trace_id)
        doubt = suspect_rows(attempts, chunk.rows)
        self._say_begun(observe, chunk, len(attempts) + 1, doubt)
        file = open_input(chunk.file, runtime.open_store)
        first = FIRST_ROWS if engine.in_flight > 1 else None
        begun = begin(
            lambda: read_windows(file, chunk, job.spec, observe, first_rows=first),
            engine.task,
            observe,
            control,
            doubt,
            self._reuse(engine),
        )
        runtime.fault("read")
        return ChunkInProgress(chunk, control, observe, begun, time.time())

    def _say_begun(
        self, observe: ChunkTrace, chunk: Chunk, number: int, doubt: SuspectRows
    ) -> None:
        job = self._work.job.id
        with self._runtime.telemetry.in_trace(observe.trace_id, observe.span_id):
            log.info("chunk.started", job=job, chunk=chunk.number, attempt_number=number)
            for row, cause in doubt.condemned.items():
                log.warning("row.condemned", job=job, chunk=chunk.number, row=row, cause=cause)

    def _reuse(self, engine: LoadedTask) -> Reuse | None:
        """The answers of an earlier output, where the job may copy them."""
        earlier = self._work.earlier
        return None if earlier is None else earlier.answers(pa.schema(engine.task.columns()))

    def _compute(
        self, it: ChunkInProgress, engine: LoadedTask, committer: ThreadPoolExecutor
    ) -> Future[None]:
        """The chunk through the device; its commit goes on behind."""
        runtime, work = self._runtime, self._work
        try:
            sink = PartSink(work.store, work.job, it.chunk, it.control.mark.attempt)
        except BaseException:
            it.begun.close()
            raise
        try:
            runtime.fault("tokenized")
            stats = finish(
                it.begun, engine, sink, it.observe, it.control, trace_id=it.observe.trace_id
            )
        except BaseException:
            sink.discard()
            raise
        runtime.fault("forwarded")
        finished = Finished(it.chunk, it.control, it.observe, sink, stats, it.started_s)
        return committer.submit(self._commit, finished)

    def _commit(self, finished: Finished) -> None:
        try:
            commit(finished, self._work, self._runtime, self._held)
        except Exception as error:
            finished.sink.discard()
            rows = finished.observe.finish("error", error)
            keep_trace(
                self._work,
                self._runtime,
                finished.chunk.number,
                finished.control.mark.attempt,
                rows,
            )
            self._failed(finished.chunk, finished.control, error)

    def _end(
        self, it: ChunkInProgress, outcome: str, error: BaseException | None = None, **facts: Any
    ) -> None:
        """Close the trace of an attempt that came to no part."""
        spans = it.observe.finish(outcome, error, **facts)
        keep_trace(self._work, self._runtime, it.chunk.number, it.control.mark.attempt, spans)

    def _stop(self, current: ChunkInProgress, ahead: ChunkInProgress | None, reason: str) -> None:
        """Give everything in hand back."""
        back = [s for s in (current, ahead) if s is not None]
        for started in back:
            started.begun.close()
            self._end(started, "stopped", stop_reason=reason)
        numbers = [s.chunk.number for s in back] + [c.number for c, _ in self._waiting]
        self._release(numbers, publish=reason == "drain")
        log.info("chunk.released", job=self._work.job.id, chunks=len(numbers), reason=reason)

    def _release(self, numbers: list[int], *, publish: bool) -> None:
        """Leases first, then the message: whoever takes it finds the chunks free."""
        for number in numbers:
            self._held.release(number)
        if publish:
            self._runtime.give_back(self._message, numbers, self._work.job.options.queue)

    def _abandon(self, lost: DeviceLost) -> NoReturn:
        """End this process as it stands: its parent records the rows in hand, as of any death."""
        log.error("device.lost", job=self._work.job.id, error_message=str(lost))
        self._runtime.telemetry.flush(1.0)
        self._runtime.leave()

    def _leave_to_others(self, error: Exception) -> None:
        """Give the chunks back and end this worker: no model was at fault, but its device."""
        numbers = [chunk.number for chunk, _ in self._waiting]
        self._release(numbers, publish=True)
        log.error("device.lost", job=self._work.job.id, error_message=str(error)[:500])
        why = f"no model can be loaded on {self._runtime.identity.device}: {error}"
        self._runtime.complain(self._work.job.key, numbers[0], "device_lost", why)
        self._runtime.end_worker()

    def _failed(self, chunk: Chunk, control: ChunkControl, error: Exception) -> None:
        """Record the attempt, then release: whoever looks next finds the reason."""
        ours = isinstance(error, HeadraceError)
        attempt = Attempt(
            chunk=chunk.number,
            number=0,
            attempt=control.mark.attempt,
            cause=error_type_of(error),
            rows=(),
            message=str(error) if ours else f"{type(error).__name__} (see the worker's log)",
            worker=self._runtime.identity.name,
            stage=control.mark.stage,
            retryable=not isinstance(error, InputChanged | ModelChanged),
            at_s=time.time(),
            seen_by=self._runtime.identity.name,
        )
        log.error(
            "chunk.failed",
            job=self._work.job.id,
            chunk=chunk.number,
            error_type=attempt.cause,
            error_message=attempt.message,
            trace_id=control.mark.trace_id or None,
            error=None if ours else error,
        )
        self._runtime.complain(self._work.job.key, attempt.chunk, attempt.cause, attempt.message)
        try:
            record_attempt(self._work.store, attempt)
        except HeadraceError as away:
            log.error(
                "chunk.failed",
                chunk=chunk.number,
                error_type=error_type_of(away),
                error_message=str(away),
            )
        self._held.release(chunk.number)
