"""A bounded queue of spans in front of an exporter. It counts every span it loses.

OpenTelemetry's own `BatchSpanProcessor` (sdk 1.45) drops the oldest spans without a readable count,
gives up a batch after one failed export, and waits up to 30 s at shutdown, whatever the given
timeout. This one keeps a failed batch for later, so that a restart of the collector loses nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from opentelemetry.context import Context

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Longest pause between attempts to reach a collector; chosen: soon back, and no storm of requests."""


class SpanQueue(SpanProcessor):
    """Passes finished spans to the exporter in its own thread; `on_end` never waits."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        size: int,
        batch_size: int,
        delay_s: float,
        on_loss: Callable[[str, int], None],
        on_failure: Callable[[int], None],
    ) -> None:
        """`on_loss(reason, count)`: spans given up. `on_failure(waiting)`: an export failed."""
        self._exporter = exporter
        self._size = size
        self._batch_size = min(batch_size, size)
        self._delay_s = delay_s
        self._on_loss = on_loss
        self._on_failure = on_failure
        self._queue: deque[ReadableSpan] = deque()
        self._in_flight = 0
        self._pause_s = 0.0
        self._hurry = False
        self._closing = False
        self._changed = threading.Condition()
        self.exported = 0
        self.dropped: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="headrace-spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._changed:
            if self._closing:
                lost = "after_shutdown"
            elif len(self._queue) + self._in_flight >= self._size:
                lost = "queue_full"
            else:
                self._queue.append(span)
                if len(self._queue) >= self._batch_size:
                    self._changed.notify_all()
                return
        self._lose(lost, 1)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Whether all queued spans were sent within the time (5 s by default)."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            timeout_s = 5.0 if timeout_millis is None else timeout_millis / 1000
            self._changed.wait_for(
                lambda: not self._hurry or not self._thread.is_alive(), timeout_s
            )
            return not self._queue and not self._in_flight

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Send what is queued within the time; count the rest as lost. Safe to call twice."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            left = len(self._queue) + self._in_flight
            self._queue.clear()
        if left:
            self._lose("shutdown", left)
        self._exporter.shutdown()

    def _run(self) -> None:
        while batch := self._next_batch():
            sent = self._export(batch)
            with self._changed:
                self._in_flight = 0
                if sent:
                    self.exported += len(batch)
                    self._pause_s = 0.0
                else:
                    self._queue.extendleft(reversed(batch))
                    self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
                if not sent or not self._queue:
                    self._hurry = False
                    self._changed.notify_all()
                if not sent and self._closing:
                    return
            if not sent:
                self._on_failure(len(self._queue))

    def _next_batch(self) -> list[ReadableSpan]:
        """Waits for a full batch, the delay, a flush or the end; empty at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(self._is_due, self._pause_s or self._delay_s)
                if self._queue or self._closing:
                    break
                self._hurry = False
                self._changed.notify_all()
            self._in_flight = min(self._batch_size, len(self._queue))
            return [self._queue.popleft() for _ in range(self._in_flight)]

    def _is_due(self) -> bool:
        full = len(self._queue) >= self._batch_size and not self._pause_s
        return self._closing or self._hurry or full

    def _export(self, batch: list[ReadableSpan]) -> bool:
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # an exporter may raise anything, and this thread must live
            return False
        finally:
            detach(token)

    def _lose(self, reason: str, count: int) -> None:
        with self._changed:
            self.dropped[reason] += count
        self._on_loss(reason, count)
