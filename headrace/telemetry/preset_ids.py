"""Spans through OpenTelemetry's SDK under ids that were chosen before.

A finished `SpanRow` becomes the SDK's span: its sampler, limits and processors see it, and the ids
in OTLP are those in `_traces/*.spans`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from headrace.tracing.trace_file import SpanRow


class GivenIds(RandomIdGenerator):
    """The ids that were set for the next span of this thread; random ids if none were set."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, trace_id: int, span_id: int) -> None:
        self._next.ids = (trace_id, span_id)

    def take_back(self) -> None:
        self._next.ids = None

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._next, "ids", None)
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._next, "ids", None)
        return ids[1] if ids else super().generate_span_id()


def emit_rows(tracer: Tracer, ids: GivenIds, rows: Sequence[SpanRow]) -> None:
    """Start and end each row as a span of the tracer; a parent comes before its children."""
    contexts: dict[str, Context] = {}
    try:
        for row in rows:
            ids.give(int(row.trace_id, 16), int(row.span_id, 16))
            span = tracer.start_span(
                row.name,
                context=_parent(row, contexts),
                kind=SpanKind[row.kind],
                attributes=dict(row.attributes),
                links=[Link(_span_context(k.trace_id, k.span_id)) for k in row.links],
                start_time=row.start_time_unix_nano,
            )
            if row.status_code != "UNSET":
                span.set_status(Status(StatusCode[row.status_code], row.status_message))
            contexts[row.span_id] = set_span_in_context(span, Context())
            span.end(row.start_time_unix_nano + row.duration_nano)
    finally:
        ids.take_back()


def context_of(trace_id: str, span_id: str) -> Context:
    """The current context, with this span as its current span."""
    return set_span_in_context(NonRecordingSpan(_span_context(trace_id, span_id)))


def _parent(row: SpanRow, contexts: dict[str, Context]) -> Context:
    """An empty context for a root; else the context of the parent, which another process may have sent."""
    if row.parent_span_id is None:
        return Context()
    known = contexts.get(row.parent_span_id)
    if known is not None:
        return known
    return set_span_in_context(
        NonRecordingSpan(_span_context(row.trace_id, row.parent_span_id)), Context()
    )


def _span_context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=flags)
