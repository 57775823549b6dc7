"""What a worker does with one message: lease, read, compute, commit, release, chunk by chunk.

While one chunk is on the device, the next is read and tokenized and the previous is committed, so
that the device waits for neither. Attempts that end without a part are in `attempt_ends`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pyarrow as pa

from headrace.coordination.attempts import (
    SuspectRows,
    read_attempts,
    suspect_rows,
)
from headrace.formats.opener import OpenFile
from headrace.process.logs import get_logger
from headrace.storage.uri import is_local_uri
from headrace.tasks.catalog import task_spec
from headrace.tracing.chunk_trace import ChunkTrace
from schemas.errors import (
    DeviceLost,
    HeadraceError,
    LeaseLost,
    MessageRejected,
    OutOfReach,
    Stopped,
)
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records.chunk import Chunk, InputFile
from schemas.records.message import ScoreChunk, parse_message
from workers.devices.device import (
    CPU,
    device_inside,
    is_lost,
)
from workers.execution.admission import check_served, flags_in
from workers.execution.attempt_ends import AttemptEnds, ChunkInProgress
from workers.execution.commit import (
    Finished,
    commit,
    keep_vocabulary,
)
from workers.execution.job_cache import JobContext
from workers.execution.lease_keeper import ChunkControl, LeaseKeeper
from workers.execution.presence import facts_of
from workers.execution.runtime import Runtime
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.profile import ChunkProfile
from workers.pipeline.read import ON_CPU, ON_GPU, read_windows
from workers.pipeline.reuse import Reuse
from workers.pipeline.run import run_chunk, start_chunk
from workers.pipeline.write import PartSink

log = get_logger(__name__)

OnDisk = Callable[[], AbstractContextManager[None]]
"""What is around work on files of a disk, which has no time limit of its own."""


def handle(body: Any, runtime: Runtime, message_id: str | None = None) -> None:
    """Process one message; never raises for an error of a chunk or of the message."""
    runtime.brake.begin()
    received_ns = time.time_ns()
    runtime.fault("received")
    try:
        message = parse_message(body)
        context = runtime.jobs.find(message)
        check_served(context.job, runtime.identity.device, runtime.settings.vllm_python)
    except OutOfReach as error:
        runtime.reports.reject_job(message, str(error))
        return
    except MessageRejected as error:
        runtime.reports.dead_letter(body, str(error))
        return
    except HeadraceError as error:  # the store is away: it is sent again
        _failed(message, runtime, error)
        return
    runtime.fault("acknowledged")
    leases = LeaseKeeper(
        runtime.client,
        context.job.key,
        runtime.identity.name,
        runtime.limits,
        runtime.drain,
        on_redis_away=runtime.reports.redis_away,
        facts=facts_of(runtime.settings),
        flags_in_store=lambda: flags_in(context.store),
        on_hang=runtime.exit_process,
    )
    with leases:
        try:
            make = runtime.handlers.get(context.job.spec.task, MessageHandler)
            make(message, context, runtime, leases, received_ns, message_id).run()
        except HeadraceError as error:  # the store is away: it is sent again
            _failed(message, runtime, error)


def _failed(message: ScoreChunk, runtime: Runtime, error: HeadraceError) -> None:
    """Handle an error of the whole message: no chunk started, or the failed one is unknown."""
    log.error("chunk.failed", error_type=error.error_type, error_message=str(error))
    if error.may_pass:
        runtime.brake.failed(store_is_away=True)
        runtime.reports.report_failure(
            message.key, message.chunks[0], error.error_type, str(error), waits=True
        )


class MessageHandler:
    """The chunks of one message, from lease to commit."""

    def __init__(
        self,
        message: ScoreChunk,
        context: JobContext,
        runtime: Runtime,
        leases: LeaseKeeper,
        received_ns: int,
        message_id: str | None = None,
    ) -> None:
        self._message = message
        self._context = context
        self._runtime = runtime
        self._leases = leases
        self._ends = AttemptEnds(message, context, runtime, leases)
        self._received_ns = received_ns
        self._message_id = message_id
        self._waiting: list[tuple[Chunk, ChunkControl]] = []

    def run(self) -> None:
        """Process the chunks. Raises StorageError; then the caller must release the leases."""
        if self._is_stopped():
            return
        self._waiting = list(self._lease())
        if not self._waiting:
            return
        engine = self._load()
        if engine is None:
            return
        with ThreadPoolExecutor(1, thread_name_prefix="headrace-commit") as committer:
            self._each(engine, committer)

    # -- before the first chunk

    def _is_stopped(self) -> bool:
        """Whether the job was cancelled or paused, possibly while this worker was down."""
        return bool(flags_in(self._context.store))

    def _lease(self) -> Iterator[tuple[Chunk, ChunkControl]]:
        """The chunks of the message that are free, each with its lease."""
        for number in self._message.chunks:
            chunk = self._context.chunk(number)
            control, dead = self._leases.take(number, chunk.rows, uuid.uuid4().hex[:16])
            if dead is not None:
                self._ends.crashed(number, dead)
            if control is None:
                self._skipped(number, "leased")
            else:
                yield chunk, control

    def _load(self) -> LoadedTask | None:
        """The job's model; None if it cannot be loaded and every chunk has been settled."""
        models, job = self._runtime.models, self._context.job
        self._leases.loaded(models.name_if_loaded(job))
        self._leases.say_busy()
        self._runtime.fault("leased")
        try:
            with self._leases.loading():
                engine = models.load(job)
        except Exception as error:
            if is_lost(device_inside(self._runtime.identity.device)):
                self._ends.no_device([chunk for chunk, _ in self._waiting], error)
                return None
            for chunk, control in self._waiting:  # none can run without the model
                self._ends.failed(chunk, control, error)
            return None
        self._leases.loaded(models.name_if_loaded(job))
        return engine

    # -- chunk by chunk

    def _each(self, engine: LoadedTask, committer: ThreadPoolExecutor) -> None:
        commits: list[Future[None]] = []
        current = self._next(engine)
        while current is not None:
            ahead = self._next(engine)
            try:
                commits.append(self._compute(current, engine, committer))
            except Stopped as stop:
                begun = [it for it in (current, ahead) if it is not None]
                self._ends.stopped(begun, [chunk for chunk, _ in self._waiting], stop.reason)
                break
            except DeviceLost as lost:
                for done in commits:  # they need no device
                    done.result()
                self._ends.device_lost(lost)
            except LeaseLost as lost:
                self._ends.lease_lost(current, lost)
            except Exception as error:
                self._ends.failed_at_work(current, error)
            for done in commits[:-1]:
                done.result()  # at most one commit is behind
            commits = commits[-1:]
            current = ahead
        for done in commits:
            done.result()

    def _next(self, engine: LoadedTask) -> ChunkInProgress | None:
        """Start the next chunk that has no part yet."""
        while self._waiting:
            if self._runtime.brake.store_is_away:  # the others would only wait for it too
                self._ends.stopped((), [c for c, _ in self._waiting], "store_away")
                self._waiting.clear()
                return None
            chunk, control = self._waiting.pop(0)
            try:
                with self._output(control)():
                    done = self._context.store.head(output_layout.part(chunk.number)) is not None
                if not done:
                    return self._begin(chunk, control, engine)
                self._skipped(chunk.number, "done")
                self._leases.release(chunk.number)
            except Exception as error:
                self._ends.failed(chunk, control, error)
        return None

    def _begin(self, chunk: Chunk, control: ChunkControl, engine: LoadedTask) -> ChunkInProgress:
        with self._output(control)():
            attempts = read_attempts(self._context.store, chunk.number)
        observe = self._trace(chunk, control, len(attempts) + 1)
        control.begin(observe.trace_id)
        suspects = suspect_rows(attempts, chunk.rows)
        self._say_begun(observe, chunk, len(attempts) + 1, suspects)
        first = chunk.pieces[0].file  # the others are like it
        # an object store has time limits
        disk = control.disk if is_local_uri(first.uri) else nullcontext
        source = partial(
            read_windows,
            self._open(first, disk),
            chunk,
            self._context.job.spec,
            observe,
            types=self._context.plan.types,
            around=disk,
            sizes=ON_CPU if engine.device == CPU else ON_GPU,
        )
        started = start_chunk(
            source,
            engine.task,
            observe,
            control,
            suspicion=suspects,
            reuse=self._reuse(engine),
        )
        self._runtime.fault("read")
        return ChunkInProgress(chunk, control, observe, started, time.time())

    def _output(self, control: ChunkControl) -> OnDisk:
        """What is around the use of the output, which may be a mounted folder as the input may."""
        return control.disk if self._context.store.is_local else nullcontext

    def _open(self, first: InputFile, disk: OnDisk) -> OpenFile:
        """Opens the chunk's files; the first is checked now, before anything is read ahead."""
        inputs = self._runtime.inputs
        with disk():
            reader = inputs.unchanged(first)
        return lambda file: reader if file == first else inputs.unchanged(file)

    def _trace(self, chunk: Chunk, control: ChunkControl, number: int) -> ChunkTrace:
        job, identity = self._context.job, self._runtime.identity
        observe = ChunkTrace(
            self._runtime.telemetry,
            job=job.id,
            chunk=chunk.number,
            attempt=control.mark.attempt,
            queue=job.options.queue,
            traceparent=self._message.traceparent,
            received_ns=self._received_ns,
            worker=identity.name,
            device=identity.device,
            model=job.spec.model.uri,
            model_revision=job.spec.model.revision,
            task=job.spec.task,
            dtype=job.spec.dtype,
            attempt_number=number,
        )
        observe.set(**{names.MESSAGING_MESSAGE_ID: self._message_id})
        return observe

    def _reuse(self, engine: LoadedTask) -> Reuse | None:
        """The predictions of an earlier output, if the job may copy them."""
        earlier = self._context.earlier
        return None if earlier is None else earlier.answers(pa.schema(engine.task.columns()))

    def _compute(
        self, it: ChunkInProgress, engine: LoadedTask, committer: ThreadPoolExecutor
    ) -> Future[None]:
        """Compute the chunk on the device; its commit runs in the background."""
        runtime, context = self._runtime, self._context
        assert it.started is not None
        try:
            disk = self._output(it.control)
            sink = PartSink(context.store, context.job, it.chunk, it.control.mark.attempt, disk)
        except BaseException:
            it.started.close()
            raise
        try:
            runtime.fault("tokenized")
            profile = self._profile(engine)
            stats = run_chunk(
                it.started, engine, sink, trace_id=it.observe.trace_id, profile=profile
            )
        except BaseException:
            sink.discard()
            raise
        runtime.fault("forwarded")
        made = None if profile is None else profile.finish()
        finished = Finished(it.chunk, it.control, it.observe, sink, stats, it.started_at, made)
        return committer.submit(commit, finished, context, runtime, self._leases, self._ends.failed)

    def _profile(self, engine: LoadedTask) -> ChunkProfile | None:
        """What counts the chunk's rows, unless that is turned off."""
        if not self._runtime.settings.profiles:
            return None
        vocabulary = self._runtime.models.vocabulary(engine)
        keep_vocabulary(self._context, vocabulary)
        return ChunkProfile(task_spec(self._context.job.spec.task), vocabulary)

    # -- in the log

    def _skipped(self, chunk: int, reason: str) -> None:
        log.info("chunk.skipped", job=self._context.job.id, chunk=chunk, reason=reason)
        self._runtime.telemetry.record(names.REDELIVERIES, 1, reason=reason)

    def _say_begun(
        self, observe: ChunkTrace, chunk: Chunk, number: int, suspects: SuspectRows
    ) -> None:
        job = self._context.job.id
        with self._runtime.telemetry.in_trace(observe.trace_id, observe.span_id):
            log.info("chunk.started", job=job, chunk=chunk.number, attempt_number=number)
            for row, cause in suspects.poison.items():
                log.warning("row.condemned", job=job, chunk=chunk.number, row=row, cause=cause)
