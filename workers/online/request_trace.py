"""The spans of one request to a synchronous worker: the request, its tokenizing, its batch.

A request that comes with a W3C `traceparent` is a child of the caller's span. One that says it is not
sampled has no spans.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.spans import links_to, named
from headrace.tracing.stages import new_id
from headrace.tracing.trace_file import SpanRow, Value
from schemas.names import telemetry as names

UNSAMPLED = "-00"


class RequestTrace:
    """One request, from its head to its answer; times are nanoseconds since the epoch."""

    def __init__(self, emitter: Emitter, method: str, route: str, traceparent: str | None) -> None:
        self._emitter = emitter
        self._method, self._route = method, route
        caller = next(iter(links_to(traceparent)), None)
        self._is_wanted = caller is None or not (traceparent or "").endswith(UNSAMPLED)
        self._trace_id = caller.trace_id if caller else new_id(16)
        self._parent_id = caller.span_id if caller else None
        self._span_id = new_id(8)
        self._began_ns = time.time_ns()
        self._stages: list[SpanRow] = []
        self._facts: dict[str, Value | None] = {}

    def add(self, **facts: Value | None) -> None:
        """Facts of the request, by the short names of their attributes."""
        self._facts |= facts

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, from here to the end of the block."""
        began_ns = time.time_ns()
        try:
            yield
        finally:
            self.stage_was(name, began_ns, time.time_ns())

    def stage_was(self, name: str, began_ns: int, ended_ns: int) -> None:
        """A stage that is over."""
        self._stages.append(
            self._row(new_id(8), self._span_id, name, began_ns, ended_ns, {names.STAGE: name})
        )

    def finish(self, status: int, error: str | None = None) -> None:
        """Send the spans; `error` is the code of an answer that is an error."""
        if not self._is_wanted:
            return
        attributes: dict[str, Value] = {
            names.HTTP_METHOD: self._method,
            names.HTTP_ROUTE: self._route,
            names.HTTP_STATUS: status,
            **named(self._facts),
        }
        if error is not None:
            attributes[names.ERROR_TYPE] = error
        name = f"{self._method} {self._route}"
        root = self._row(
            self._span_id, self._parent_id, name, self._began_ns, time.time_ns(), attributes,
            is_failed=status >= 500,
        )  # fmt: skip
        self._emitter.emit([root, *self._stages])

    def _row(
        self,
        span_id: str,
        parent_id: str | None,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: dict[str, Value],
        is_failed: bool = False,
    ) -> SpanRow:
        return SpanRow(
            self._trace_id, span_id, parent_id, name,
            "SERVER" if span_id == self._span_id else "INTERNAL",
            began_ns, max(0, ended_ns - began_ns), "ERROR" if is_failed else "UNSET",
            attributes=attributes, resource=self._emitter.resource,
        )  # fmt: skip
