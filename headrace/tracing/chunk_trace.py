"""One attempt on one chunk, timed once: its spans, its rows for `_traces/`, its stage seconds.

A chunk has a trace of its own. The message's trace context, which is the job's, becomes a link and
not a parent, so that a job of any size makes small traces. A stage that is entered a thousand times
is one span: first start, last end, busy time, counters, percentiles of its calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Protocol, Self

from headrace.tracing.spans import (
    links_to,
    messaging,
    named,
    safe_message,
    span_name,
    stage_span,
)
from headrace.tracing.stages import (
    Call,
    Clock,
    Stages,
    StageSums,
    new_id,
)
from headrace.tracing.trace_file import SpanRow, Value
from schemas.errors import LeaseLost, Stopped, error_type_of
from schemas.names import telemetry as names


class Stage(Protocol):
    """The value of `with observe(stage) as s`."""

    def add(self, **counters: float) -> None:
        """Add to the stage's counters: `rows`, `tokens`, `padding_tokens`, `batches`, `bytes` …"""


class Observe(Protocol):
    """Times a stage: `with observe("forward", rows=…, tokens=…): …`."""

    def __call__(self, stage: str, **counters: float) -> AbstractContextManager[Stage]: ...


class Emitter(Protocol):
    """Receives finished spans; `Telemetry` in a process, a fake in a test."""

    @property
    def resource(self) -> Mapping[str, str]:
        """The resource of the spans: `service.name` and others."""

    def emit(self, rows: Sequence[SpanRow]) -> None:
        """Take finished spans, parents before children; never blocks, never raises."""

    def record(self, metric: str, value: float, **labels: str) -> None:
        """Add to a metric of `names.METRICS`."""

    def in_trace(self, trace_id: str, span_id: str) -> AbstractContextManager[None]:
        """A context in which logs carry these ids."""


class ChunkTrace:
    """Call it as `observe(stage, **counters)` from any thread; `finish` it once.

    As a context, logs written within carry its ids, and an exception that leaves it finishes it.
    """

    def __init__(
        self,
        emitter: Emitter,
        *,
        job: str,
        chunk: int,
        attempt: str,
        queue: str = "",
        traceparent: str | None = None,
        received_ns: int | None = None,
        trace_id: str | None = None,
        started_ns: int | None = None,
        clock: Clock | None = None,
        **attributes: Value | None,
    ) -> None:
        """`attributes`: worker, device, model, model_revision, task, dtype, attempt_number …

        `received_ns` (since the epoch) adds a `receive` span. `trace_id` and `started_ns` are only
        given to write the trace of an attempt that crashed.
        """
        self._emitter = emitter
        self._clock = clock or Clock()
        self._stages = Stages(self._clock)
        self._steady_ns = self._clock.steady_ns()
        self._start_ns = self._clock.wall_ns() if started_ns is None else started_ns
        self._received_ns = received_ns
        self._queue = queue
        self._links = links_to(traceparent)
        self._common = named({"job": job, "chunk": chunk, "attempt": attempt, **attributes})
        self._rows: list[SpanRow] | None = None
        self._log_context: AbstractContextManager[None] | None = None
        self.trace_id = trace_id or new_id(16)
        self.span_id = new_id(8)

    def __call__(self, stage: str, **counters: float) -> Call:
        return self._stages.call(stage, counters)

    def stages_s(self) -> dict[str, float]:
        """Busy seconds of each stage so far."""
        return self._stages.stages_s()

    def set(self, **attributes: Value | None) -> None:
        """Attributes that were not known at the start."""
        self._common |= named(attributes)

    def __enter__(self) -> Self:
        self._log_context = self._emitter.in_trace(self.trace_id, self.span_id)
        self._log_context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.finish(outcome_of(error), error)
        if self._log_context is not None:
            self._log_context.__exit__(kind, error, trace)
            self._log_context = None

    def finish(
        self,
        outcome: str = "ok",
        error: BaseException | None = None,
        ended_ns: int | None = None,
        cause: str | None = None,
        **attributes: Value | None,
    ) -> list[SpanRow]:
        """The attempt's spans, root first; they are sent to the emitter.

        `outcome` is one of `names.OUTCOMES`; `cause` is the class of a failure that left no
        exception. A second call changes nothing and gives the same rows.
        """
        if self._rows is None:
            end_ns = self._wall(self._clock.steady_ns()) if ended_ns is None else ended_ns
            stages = self._stages.sums()
            root = self._root(outcome, error, cause, end_ns, named(attributes))
            self._rows = [root, *self._receive()]
            self._rows += [self._child(stage, sums, error) for stage, sums in stages]
            self._emitter.emit(self._rows)
            self._count(outcome, self._rows[0], stages)
        return self._rows

    def _wall(self, steady_ns: int) -> int:
        """A steady time as nanoseconds since the epoch; setting back the clock makes no span negative."""
        return self._start_ns + steady_ns - self._steady_ns

    def _root(
        self,
        outcome: str,
        error: BaseException | None,
        cause: str | None,
        end_ns: int,
        more: dict[str, Value],
    ) -> SpanRow:
        if error is not None:
            cause = error_type_of(error)
        elif outcome == "worker_lost":
            cause = cause or outcome
        failed = outcome in ("error", "worker_lost")
        reason = error.reason if isinstance(error, Stopped) else None
        ended = named(
            {"outcome": outcome, "stop_reason": reason, names.ERROR_TYPE: cause if failed else None}
        )
        return SpanRow(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=None,
            name=span_name(names.PROCESS, self._queue),
            kind="CONSUMER",
            start_time_unix_nano=self._start_ns,
            duration_nano=max(0, end_ns - self._start_ns),
            status_code="ERROR" if failed else "OK" if outcome == "ok" else "UNSET",
            status_message=safe_message(error) if failed else None,
            links=self._links,
            attributes=self._common | messaging(names.PROCESS, self._queue) | ended | more,
            resource=self._emitter.resource,
        )

    def _receive(self) -> Iterator[SpanRow]:
        if self._received_ns is not None:
            start_ns = min(self._received_ns, self._start_ns)
            yield SpanRow(
                trace_id=self.trace_id,
                span_id=new_id(8),
                parent_span_id=self.span_id,
                name=span_name(names.RECEIVE, self._queue),
                kind="CLIENT",
                start_time_unix_nano=start_ns,
                duration_nano=self._start_ns - start_ns,
                links=self._links,
                attributes=self._common | messaging(names.RECEIVE, self._queue),
                resource=self._emitter.resource,
            )

    def _child(self, stage: str, sums: StageSums, error: BaseException | None) -> SpanRow:
        parent = (self.trace_id, self.span_id)
        start_ns = self._wall(sums.first_ns)
        return stage_span(
            stage, sums, start_ns, parent, self._common, self._emitter.resource, error
        )

    def _count(self, outcome: str, root: SpanRow, stages: list[tuple[str, StageSums]]) -> None:
        error_type = root.attributes.get(names.ERROR_TYPE)
        labels = {names.ERROR_TYPE: str(error_type)} if error_type else {}
        job = {names.JOB_ID: str(root.attributes[names.JOB_ID])}
        self._emitter.record(names.ATTEMPTS, 1, outcome=outcome, **labels, **job)
        self._emitter.record(names.CHUNK_DURATION, root.duration_nano / 1e9, outcome=outcome)
        if outcome == "ok":
            for attribute, metric, status in _COMMITTED:
                value = float(root.attributes.get(attribute, 0))
                named_job = job if metric in names.JOB_LABEL else {}
                self._emitter.record(metric, value, **status, **named_job)
        if outcome == "lease_lost":
            self._emitter.record(names.LEASE_LOSSES, 1)
        for stage, sums in stages:
            self._emitter.record(names.STAGE_DURATION, sums.busy_ns / 1e9, stage=stage)


_COMMITTED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("headrace.ok_rows", names.ROWS, {"status": "ok"}),
    ("headrace.error_rows", names.ROWS, {"status": "error"}),
    ("headrace.tokens", names.TOKENS, {}),
    ("headrace.padding_tokens", names.PADDING, {}),
    ("headrace.batches", names.BATCHES, {}),
    ("headrace.reused_rows", names.REUSE_HITS, {}),
    ("headrace.duplicate_rows", names.DUPLICATES, {}),
)


def outcome_of(error: BaseException) -> str:
    """The outcome of an attempt that ended with this exception."""
    if isinstance(error, Stopped):
        return "stopped"
    return "lease_lost" if isinstance(error, LeaseLost) else "error"


class _NoStage:
    def add(self, **counters: float) -> None:
        pass


@contextmanager
def observe_nothing(stage: str, **counters: float) -> Iterator[Stage]:
    """An `Observe` that keeps nothing: for one request over HTTP, and for tests."""
    yield _NoStage()
