"""The controller's metrics as Prometheus text: backlog, workers, deadlines, Redis.

No label but the queue and words of a fixed list: a job's id would make a new series each night.
`METRICS` is the whole list; docs/autoscaling.md repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from producers.scaling import Wanted
from producers.scaling_facts import Facts, JobFacts
from schemas.errors import MissingExtra


class Gauge(NamedTuple):
    labels: tuple[str, ...]
    text: str


METRICS: dict[str, Gauge] = {
    "headrace_redis_up": Gauge((), "1 while Redis answers the controller"),
    "headrace_redis_memory_bytes": Gauge((), "memory that Redis uses"),
    "headrace_redis_memory_limit_bytes": Gauge((), "memory that Redis may use; 0: no limit"),
    "headrace_jobs": Gauge(("queue", "state"), "jobs in hand: running or paused"),
    "headrace_job_chunks": Gauge(("queue", "state"), "chunks: new, sent, done or parked"),
    "headrace_backlog_tokens": Gauge(("queue",), "tokens that wait to be scored"),
    "headrace_backlog_rows": Gauge(("queue",), "rows that wait to be scored"),
    "headrace_oldest_job_seconds": Gauge(("queue",), "age of the oldest job in hand"),
    "headrace_progress_age_seconds": Gauge(
        ("queue",), "longest time that a running job has shown no progress"
    ),
    "headrace_deadline_seconds": Gauge(("queue",), "seconds to the nearest deadline"),
    "headrace_deadline_at_risk": Gauge(
        ("queue",), "1 while a deadline cannot be met safely by all workers allowed"
    ),
    "headrace_workers": Gauge(("queue", "state"), "live workers: busy or idle"),
    "headrace_workers_wanted": Gauge(("queue",), "workers that the backlog wants"),
    "headrace_worker_tokens_per_second": Gauge(
        ("queue",), "measured speed of one worker, mean over the jobs in hand"
    ),
}

Sample = tuple[str, tuple[str, ...], float]
"""Name, values of its labels, value."""


def exposition(
    facts: Facts, wanted: Mapping[str, Wanted], memory: Mapping[str, Any] | None, now_s: float
) -> str:
    """The text of `/metrics`; `memory` is None while Redis is away.

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
    gauges = {}
    for name, labels, value in [*_of_redis(memory), *_of_queues(facts, wanted, now_s)]:
        if name not in gauges:
            gauge = METRICS[name]
            gauges[name] = PrometheusGauge(name, gauge.text, gauge.labels, registry=registry)
        (gauges[name].labels(*labels) if labels else gauges[name]).set(value)
    return generate_latest(registry).decode()


def _of_redis(memory: Mapping[str, Any] | None) -> Iterator[Sample]:
    yield "headrace_redis_up", (), float(memory is not None)
    if memory is not None:
        yield "headrace_redis_memory_bytes", (), float(memory.get("used_memory", 0))
        yield "headrace_redis_memory_limit_bytes", (), float(memory.get("maxmemory", 0))


def _of_queues(facts: Facts, wanted: Mapping[str, Wanted], now_s: float) -> Iterator[Sample]:
    for queue in facts.queues:
        jobs = [j for j in facts.jobs if j.queue == queue]
        fleet = facts.fleet(queue)
        yield "headrace_workers", (queue, "busy"), fleet.busy
        yield "headrace_workers", (queue, "idle"), fleet.idle
        if queue in wanted:
            yield "headrace_workers_wanted", (queue,), wanted[queue].workers
            yield "headrace_deadline_at_risk", (queue,), float(wanted[queue].deadline_at_risk)
        yield from _of_jobs(queue, jobs, now_s)


def _of_jobs(queue: str, jobs: list[JobFacts], now_s: float) -> Iterator[Sample]:
    running = [j for j in jobs if not j.paused]
    yield "headrace_jobs", (queue, "running"), len(running)
    yield "headrace_jobs", (queue, "paused"), len(jobs) - len(running)
    yield "headrace_backlog_tokens", (queue,), sum(j.backlog_tokens for j in jobs)
    yield "headrace_backlog_rows", (queue,), sum(j.backlog_rows for j in jobs)
    for state in ("new", "sent", "done", "parked"):
        yield "headrace_job_chunks", (queue, state), sum(j.counts.get(state, 0) for j in jobs)
    oldest = max((now_s - j.submitted_s for j in jobs), default=0.0)
    yield "headrace_oldest_job_seconds", (queue,), oldest
    stalled = max((now_s - j.progress_s for j in running if j.chunks), default=0.0)
    yield "headrace_progress_age_seconds", (queue,), stalled
    deadlines = [j.deadline_s - now_s for j in jobs if j.deadline_s is not None]
    if deadlines:
        yield "headrace_deadline_seconds", (queue,), min(deadlines)
    speeds = [j.tokens_per_s for j in jobs if j.tokens_per_s]
    if speeds:
        yield "headrace_worker_tokens_per_second", (queue,), sum(speeds) / len(speeds)
