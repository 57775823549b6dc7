"""The job's own trace: span `job`, and below it the producers' plan, publish, follow, finish.

The ids of `job` are chosen at submit and written to `job.json`. So every producer that works on the
job later, on another day or host, adds to the same trace, and every message links to it. The span
`job` itself is exported once, by the process that ends the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.process.logs import get_logger
from headrace.storage.store import Store
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.spans import (
    messaging,
    named,
    safe_message,
    span_name,
    stage_span,
    traceparent,
)
from headrace.tracing.stages import (
    Call,
    Clock,
    Stages,
    StageSums,
    new_id,
)
from headrace.tracing.trace_file import (
    SpanRow,
    Value,
    spans_to_parquet,
)
from schemas.errors import HeadraceError, error_type_of
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records.job import Job

log = get_logger(__name__)


class JobTrace:
    """Call it as `trace(stage, **counters)`, then `end` it once, then `save` it.

    A new job has new ids, to be written into its `job.json`; a job that exists already brings its
    own (`JobTrace.of`).
    """

    def __init__(
        self,
        emitter: Emitter,
        *,
        job: str = "",
        queue: str = "",
        trace_id: str | None = None,
        span_id: str | None = None,
        submitted_ns: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._emitter = emitter
        self._clock = clock or Clock()
        self._stages = Stages(self._clock)
        self._steady_ns = self._clock.steady_ns()
        self._start_ns = self._clock.wall_ns()
        self._submitted_ns = self._start_ns if submitted_ns is None else submitted_ns
        self._queue = queue
        self._common = named({"job": job or None})
        self._rows: list[SpanRow] | None = None
        self._run = new_id(8)
        self.store: Store | None = None
        """Where the job is, once it is known."""
        self.trace_id = trace_id or new_id(16)
        self.span_id = span_id or new_id(8)

    @classmethod
    def of(cls, job: Job, emitter: Emitter) -> JobTrace:
        """The trace of a job that exists."""
        trace = cls(emitter)
        trace.adopt(job)
        return trace

    def adopt(self, job: Job, store: Store | None = None) -> None:
        """Take over this job's ids, queue and time of submission; at any time before `end`.

        A submitter learns only after planning that the job existed already.
        """
        self.trace_id = job.trace_id or self.trace_id
        self.span_id = job.span_id or self.span_id
        self.store = store
        self._queue = job.options.queue
        self._submitted_ns = int(job.submitted_s * 1e9)
        self.set(
            job=job.id,
            model=job.spec.model.uri,
            task=job.spec.task,
            files=job.inputs.files,
            chunks=job.chunks,
        )

    def __call__(self, stage: str, **counters: float) -> Call:
        return self._stages.call(stage, counters)

    def set(self, **attributes: Value | None) -> None:
        """Attributes that were not known at the start: `job`, `model`, `files`, `rows` …"""
        self._common |= named(attributes)

    def traceparent(self) -> str:
        """The `traceparent` of the span `job`, which messages carry."""
        return traceparent(self.trace_id, self.span_id)

    def end(
        self,
        state: str | None = None,
        error: BaseException | None = None,
        **attributes: Value | None,
    ) -> list[SpanRow]:
        """This producer's spans; they are sent to the emitter. A second call changes nothing.

        With `state`, how the job ended, the span `job` is made too; None leaves that to another
        process.
        """
        if self._rows is None:
            end_ns = self._wall(self._clock.steady_ns())
            children = [self._child(stage, sums, error) for stage, sums in self._stages.sums()]
            root = [self._root(state, error, end_ns, named(attributes))] if state or error else []
            self._rows = [*root, *children]
            self._emitter.emit(self._rows)
        return self._rows

    def save(self, store: Store) -> bool:
        """Write the spans under `_traces/`, best effort; call it after `end`."""
        if not self._rows:
            return False
        try:
            return store.create(output_layout.job_trace(self._run), spans_to_parquet(self._rows))
        except HeadraceError as error:
            log.warning(
                "trace.not_written", job=self._common.get(names.JOB_ID), reason=safe_message(error)
            )
            return False

    def _wall(self, steady_ns: int) -> int:
        return self._start_ns + steady_ns - self._steady_ns

    def _root(
        self, state: str | None, error: BaseException | None, end_ns: int, more: Mapping[str, Value]
    ) -> SpanRow:
        failed = error is not None or state == "failed"
        cause = error_type_of(error) if error else "job_failed" if failed else None
        ended = named({"outcome": state or "failed", names.ERROR_TYPE: cause})
        return SpanRow(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=None,
            name=names.JOB,
            kind="INTERNAL",
            start_time_unix_nano=self._submitted_ns,
            duration_nano=max(0, end_ns - self._submitted_ns),
            status_code="ERROR" if failed else "OK" if state == "finished" else "UNSET",
            status_message=safe_message(error),
            attributes={**self._common, **ended, **more},
            resource=self._emitter.resource,
        )

    def _child(self, stage: str, sums: StageSums, error: BaseException | None) -> SpanRow:
        publishes = stage == names.PUBLISH
        extra: dict[str, Any] = {}
        if publishes:
            extra = messaging(names.SEND, self._queue)
            extra[names.MESSAGING_BATCH_COUNT] = int(sums.counters.get("messages", 0))
        return stage_span(
            stage,
            sums,
            self._wall(sums.first_ns),
            (self.trace_id, self.span_id),
            self._common | extra,
            self._emitter.resource,
            error,
            name=span_name(names.SEND, self._queue) if publishes else None,
            kind="PRODUCER" if publishes else "INTERNAL",
        )
