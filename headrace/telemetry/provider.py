"""OpenTelemetry in one process: set up once after the fork, shut down once, and never blocking.

Nothing is exported or logged unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or the variable of one signal)
names a collector. The SDK reads the rest of `OTEL_*` by itself. OpenTelemetry is imported in
functions only, so that `--help` stays fast.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.process.logs import get_logger
from headrace.settings import metrics_folder
from headrace.tracing.spans import named
from headrace.tracing.trace_file import SpanRow
from schemas.errors import MissingExtra
from schemas.names import telemetry as names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

    from headrace.settings import Settings
    from headrace.telemetry.preset_ids import GivenIds
    from headrace.telemetry.prometheus import PrometheusMetrics
    from headrace.telemetry.span_queue import SpanQueue

log = get_logger(__name__)

MOST_CLASSES = 64
"""Error classes that get their own time series; chosen: headrace has half as many."""

Sample = tuple[str, tuple[str, ...], float]
"""Name of a gauge, values of its labels, value."""

SAY_AGAIN_S = 60.0
"""Seconds between log lines about a collector that does not answer; chosen: 500 lines in a night."""


@dataclass
class Telemetry:
    """The process's tracer and meter, and the `Emitter` of its spans. Thread-safe."""

    resource: Mapping[str, str] = field(default_factory=dict)
    tracer: Tracer | None = None
    meter: Meter | None = None
    _ids: GivenIds | None = None
    prometheus: PrometheusMetrics | None = None
    """The metrics of this process for `/metrics`; None if they are not served."""
    label_jobs: frozenset[str] = frozenset()
    """Jobs whose id may be a label."""
    _queue: SpanQueue | None = None
    _tracers: TracerProvider | None = None
    _meters: MeterProvider | None = None
    _instruments: dict[str, Any] = field(default_factory=dict)
    _classes: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def emit(self, rows: Sequence[SpanRow]) -> None:
        """Send finished spans, parents before their children, under the ids they have."""
        if self.tracer is not None and self._ids is not None and self._queue is not None:
            from headrace.telemetry.preset_ids import emit_rows

            emit_rows(self.tracer, self._ids, rows)

    def record(self, metric: str, value: float, **labels: str) -> None:
        """Add to a counter, set a gauge, or observe a value of a histogram of `names.METRICS`.

        A label `headrace.job` is kept only for jobs on the list.
        """
        if self.meter is None and self.prometheus is None:
            return
        labels = self._bounded(labels)
        if self.prometheus is not None:
            self.prometheus.record(metric, value, labels)
        if self.meter is not None:
            self._to_meter(metric, value, labels)

    def _to_meter(self, metric: str, value: float, labels: Mapping[str, str]) -> None:
        instrument = self._instruments.get(metric) or self._instrument(metric)
        kind = names.METRICS[metric].kind
        if kind == "counter":
            instrument.add(value, labels)
        elif kind == "gauge":
            instrument.set(value, labels)
        else:
            instrument.record(value, labels)

    def _bounded(self, labels: dict[str, str]) -> dict[str, str]:
        """The labels with no more values than a time-series database can bear."""
        if labels.get(names.JOB_ID, "") not in self.label_jobs:
            labels.pop(names.JOB_ID, None)
        kind = labels.get(names.ERROR_TYPE)
        if kind is not None and kind not in self._classes:
            if len(self._classes) < MOST_CLASSES:
                self._classes.add(kind)
            else:
                labels[names.ERROR_TYPE] = "other"
        return labels

    def watch(self, gauges: Callable[[], Iterable[Sample]], metrics: Iterable[str]) -> None:
        """Export these gauges over OTLP; they are read at each export, so gauges that are gone are not sent."""
        if self.meter is None:
            return
        from opentelemetry.metrics import CallbackOptions, Observation

        seen = _Recent(gauges)

        def callback(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
            labels = names.METRICS[name].labels
            return lambda options: [
                Observation(value, dict(zip(labels, found, strict=True)))
                for metric, found, value in seen.samples()
                if metric == name
            ]

        for name in metrics:
            metric = names.METRICS[name]
            self.meter.create_observable_gauge(
                name, [callback(name)], unit=metric.unit, description=metric.text
            )

    @contextmanager
    def in_trace(self, trace_id: str, span_id: str) -> Iterator[None]:
        """Within the context, logs and spans of instrumented libraries carry these ids."""
        from opentelemetry.context import attach, detach

        from headrace.telemetry.preset_ids import context_of

        token = attach(context_of(trace_id, span_id))
        try:
            yield
        finally:
            detach(token)

    def spans_dropped(self) -> Counter[str]:
        """Number of spans that were lost, by reason."""
        return Counter(self._queue.dropped) if self._queue else Counter()

    def spans_exported(self) -> int:
        return self._queue.exported if self._queue else 0

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Whether every span so far reached the collector within the time."""
        return self._queue is None or self._queue.force_flush(int(timeout_s * 1000))

    def shutdown(self, timeout_s: float = 5.0) -> None:
        """Flush and stop within the time; logs what was lost. Safe to call twice."""
        end_s = time.monotonic() + timeout_s
        if self._queue is not None:
            self._queue.shutdown(timeout_s)
        if self._meters is not None:
            self._meters.shutdown(timeout_millis=max(100.0, (end_s - time.monotonic()) * 1000))
        if self._queue is not None:
            exported, dropped = self.spans_exported(), sum(self.spans_dropped().values())
            log.info("telemetry.stopped", exported=exported, dropped=dropped)
        self._queue = self._meters = self.meter = self.tracer = None

    def _instrument(self, name: str) -> Any:
        with self._lock:
            if name not in self._instruments and self.meter is not None:
                metric = names.METRICS[name]
                make = getattr(self.meter, f"create_{metric.kind}")
                buckets: dict[str, Any] = {}
                if metric.buckets:
                    buckets["explicit_bucket_boundaries_advisory"] = metric.buckets
                self._instruments[name] = make(
                    name, unit=metric.unit, description=metric.text, **buckets
                )
            return self._instruments[name]


def start_telemetry(
    service_name: str, settings: Settings, *, process: str | None = None, **attributes: str
) -> Telemetry:
    """The telemetry of this process; `attributes` go to the resource, such as `worker="a-1"`.

    `process` names it among the processes of its host that keep metrics; default: the worker.

    Call it once in each process, after the fork. `OTEL_SERVICE_NAME` and
    `OTEL_RESOURCE_ATTRIBUTES` override what is given here.

    Raises:
        ConfigError: an `OTEL_*` variable has a value that headrace does not support.
        MissingExtra: gRPC was asked for and its package is not installed.
    """
    from headrace.telemetry import exporters

    attributes = {k: str(v) for k, v in named(attributes).items()}
    traces, metrics = exporters.is_wanted("traces"), exporters.is_wanted("metrics")
    telemetry = Telemetry({"service.name": service_name, **attributes})
    telemetry.label_jobs = frozenset(settings.label_jobs)
    process = process or attributes.get(names.WORKER)
    telemetry.prometheus = _shared_metrics(process, bool(settings.label_jobs))
    if not traces and not metrics:
        return telemetry
    resource = _resource(service_name, attributes)
    telemetry.resource = {k: str(v) for k, v in resource.attributes.items()}
    if metrics:
        _start_metrics(telemetry, resource, settings.grace_s)
    if traces:
        _start_traces(telemetry, resource, settings.grace_s)
    return telemetry


def _shared_metrics(process: str | None, label_jobs: bool) -> PrometheusMetrics | None:
    """Metrics in the files of the host's workers, if the fleet keeps such files and the package is installed."""
    folder = metrics_folder()
    if folder is None or process is None:
        return None
    from headrace.telemetry.prometheus import metrics_in_files

    try:
        return metrics_in_files(folder, process, label_jobs)
    except MissingExtra:
        return None  # a request of /metrics gets the reason


def _resource(service_name: str, attributes: Mapping[str, str]) -> Resource:
    """The resource: `OTEL_*` overrides what is given here; without command line and user name."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    base = {"service.name": service_name, **attributes}
    return Resource.create().merge(Resource(base)).merge(OTELResourceDetector().detect())


def _start_traces(telemetry: Telemetry, resource: Resource, grace_s: float) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    from headrace.telemetry import exporters
    from headrace.telemetry.preset_ids import GivenIds
    from headrace.telemetry.span_queue import SpanQueue

    said = _Complaints(telemetry)
    telemetry._queue = SpanQueue(
        exporters.span_exporter(grace_s),
        # the SDK's defaults, so that OTEL_BSP_* works as documented elsewhere
        size=int(exporters.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)),
        batch_size=int(exporters.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
        delay_s=exporters.number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        on_loss=said.lost,
        on_failure=said.failed,
    )
    telemetry._ids = GivenIds()
    telemetry._tracers = TracerProvider(
        resource=resource, id_generator=telemetry._ids, shutdown_on_exit=False
    )
    telemetry._tracers.add_span_processor(telemetry._queue)
    telemetry.tracer = telemetry._tracers.get_tracer(names.SCOPE)
    log.info("telemetry.started", protocol=exporters.protocol_of("traces"))


def _start_metrics(telemetry: Telemetry, resource: Resource, grace_s: float) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from headrace.telemetry import exporters

    reader = PeriodicExportingMetricReader(exporters.metric_exporter(grace_s))
    telemetry._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    telemetry.meter = telemetry._meters.get_meter(names.SCOPE)


class _Recent:
    """Gauges that one export asks for one by one, read once."""

    def __init__(self, gauges: Callable[[], Iterable[Sample]]) -> None:
        self._gauges = gauges
        self._at_s = float("-inf")
        self._samples: list[Sample] = []

    def samples(self) -> list[Sample]:
        now_s = time.monotonic()
        if now_s - self._at_s > 1.0:
            self._at_s, self._samples = now_s, list(self._gauges())
        return self._samples


class _Complaints:
    """Logs the failures of a collector: the first at once, then at most one per minute."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._said_s: dict[str, float] = {}

    def failed(self, waiting: int) -> None:
        if self._is_time("failed"):
            log.warning("telemetry.export_failed", spans=waiting)

    def lost(self, reason: str, count: int) -> None:
        self._telemetry.record(names.SPANS_DROPPED, count, reason=reason)
        if reason == "shutdown" or self._is_time(reason):
            dropped = self._telemetry.spans_dropped()[reason]
            log.warning("telemetry.spans_dropped", reason=reason, dropped=dropped)

    def _is_time(self, what: str) -> bool:
        now_s = time.monotonic()
        if now_s - self._said_s.get(what, -SAY_AGAIN_S) < SAY_AGAIN_S:
            return False
        self._said_s[what] = now_s
        return True
