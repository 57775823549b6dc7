"""The controller's metrics: backlog, workers, deadlines, Redis; for Prometheus and for OTLP.

Labels are the queue and words of a fixed list: a job's id would make a new series each night. The
list is in `schemas/names/telemetry.py`; docs/operations/autoscaling.md repeats it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from headrace.telemetry.provider import Sample
from producers.scaling.decision import ScalingDecision
from producers.scaling.facts import JobFacts, ScalingInputs
from schemas.errors import MissingExtra
from schemas.names import telemetry as names


class Gauge(NamedTuple):
    labels: tuple[str, ...]
    text: str


GAUGES: tuple[str, ...] = tuple(n for n, m in names.METRICS.items() if m.source == "controller")
"""The controller's own metrics, by their OpenTelemetry names."""

METRICS: dict[str, Gauge] = {
    names.prometheus_name(n): Gauge(names.METRICS[n].labels, names.METRICS[n].text) for n in GAUGES
}
"""The same, as Prometheus has them."""


def gauges(
    facts: ScalingInputs,
    wanted: Mapping[str, ScalingDecision],
    memory: Mapping[str, Any] | None,
    now_at: float,
) -> list[Sample]:
    """What the controller knows, by OpenTelemetry name; `memory` is None while Redis is down."""
    return [
        *_of_redis(memory),
        *_of_queues(facts, wanted, now_at),
        *_of_ends(facts, now_at),
        *_of_hosts(facts),
        *_of_drift(facts),
    ]


def exposition(samples: Iterable[Sample]) -> str:
    """These gauges as the text of `/metrics`.

    Raises:
        MissingExtra: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client import Gauge as PrometheusGauge
    except ImportError as error:
        raise MissingExtra(
            "/metrics needs a package more: pip install 'headrace[metrics]'"
        ) from error
    registry = CollectorRegistry()
    made = {}
    for name, labels, value in samples:
        if name not in made:
            metric, shown = names.METRICS[name], names.prometheus_name(name)
            made[name] = PrometheusGauge(shown, metric.text, metric.labels, registry=registry)
        (made[name].labels(*labels) if labels else made[name]).set(value)
    return generate_latest(registry).decode()


def _of_redis(memory: Mapping[str, Any] | None) -> Iterator[Sample]:
    yield "headrace.redis.up", (), float(memory is not None)
    if memory is not None:
        yield "headrace.redis.memory", (), float(memory.get("used_memory", 0))
        yield "headrace.redis.memory.limit", (), float(memory.get("maxmemory", 0))


def _of_queues(
    facts: ScalingInputs, wanted: Mapping[str, ScalingDecision], now_at: float
) -> Iterator[Sample]:
    for queue in facts.queues:
        jobs = [j for j in facts.jobs if j.queue == queue]
        fleet = facts.fleet(queue)
        yield "headrace.workers", (queue, "busy"), fleet.busy
        yield "headrace.workers", (queue, "idle"), fleet.idle
        if queue in wanted:
            yield "headrace.workers.wanted", (queue,), wanted[queue].workers
            yield "headrace.deadline.at_risk", (queue,), float(wanted[queue].deadline_at_risk)
        yield from _of_jobs(queue, jobs, now_at)


def _of_jobs(queue: str, jobs: list[JobFacts], now_at: float) -> Iterator[Sample]:
    running = [j for j in jobs if not j.paused]
    yield "headrace.jobs", (queue, "running"), len(running)
    yield "headrace.jobs", (queue, "paused"), len(jobs) - len(running)
    yield from _work_left(queue, jobs)
    yield from _ages(queue, jobs, running, now_at)
    deadlines = [j.deadline_s - now_at for j in jobs if j.deadline_s is not None]
    if deadlines:
        yield "headrace.deadline", (queue,), min(deadlines)
    speeds = [j.tokens_per_s for j in jobs if j.tokens_per_s]
    if speeds:
        yield "headrace.worker.tokens", (queue,), sum(speeds) / len(speeds)


def _work_left(queue: str, jobs: list[JobFacts]) -> Iterator[Sample]:
    yield "headrace.backlog.tokens", (queue,), sum(j.backlog_tokens for j in jobs)
    yield "headrace.backlog.rows", (queue,), sum(j.backlog_rows for j in jobs)
    for state in ("new", "sent", "done", "parked"):
        yield "headrace.job.chunks", (queue, state), sum(j.counts.get(state, 0) for j in jobs)


def _ages(
    queue: str, jobs: list[JobFacts], running: list[JobFacts], now_at: float
) -> Iterator[Sample]:
    oldest = max((now_at - j.submitted_s for j in jobs), default=0.0)
    yield "headrace.oldest.job", (queue,), oldest
    handed = [j.oldest_chunk_s for j in jobs if j.oldest_chunk_s is not None]
    yield "headrace.oldest.chunk", (queue,), now_at - min(handed, default=now_at)
    stalled = max((now_at - j.progress_s for j in running if j.chunks), default=0.0)
    yield "headrace.progress.age", (queue,), stalled


def _of_ends(facts: ScalingInputs, now_at: float) -> Iterator[Sample]:
    """Jobs that ended recently, and jobs past their deadline; 0 if a queue has none."""
    ends = Counter((e.queue, e.state, e.reason) for e in facts.ended)
    for (queue, state, reason), count in sorted(ends.items()):
        yield "headrace.jobs.ended", (queue, state, reason), count
    late = Counter(e.queue for e in facts.ended if e.is_late)
    late.update(j.queue for j in facts.jobs if j.deadline_s is not None and j.deadline_s < now_at)
    for queue in sorted({*facts.queues, *late}):
        yield "headrace.deadline.missed", (queue,), late[queue]


def _of_hosts(facts: ScalingInputs) -> Iterator[Sample]:
    for cause, count in sorted(Counter(e.cause for e in facts.excluded).items()):
        yield "headrace.hosts.excluded", (cause,), count


def _of_drift(facts: ScalingInputs) -> Iterator[Sample]:
    """The worst of each feature, where several jobs of a queue are compared."""
    worst: dict[tuple[str, str], float] = {}
    expected: dict[str, float] = {}
    for verdict in facts.drift:
        for feature, part in verdict.features.items():
            at = (verdict.queue, feature)
            worst[at] = max(worst.get(at, 0.0), part)
        if verdict.expected_accuracy is not None:
            lowest = expected.get(verdict.queue, 1.0)
            expected[verdict.queue] = min(lowest, verdict.expected_accuracy)
    for at, part in sorted(worst.items()):
        yield "headrace.drift", at, part
    for queue, accuracy in sorted(expected.items()):
        yield "headrace.accuracy.expected", (queue,), accuracy
