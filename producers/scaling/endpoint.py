"""The controller's HTTP endpoint: liveness, readiness, wanted workers, metrics.

| path | answer |
| --- | --- |
| `/healthz` | 200 while the controller's loop runs |
| `/readyz` | 200 while Redis answers too |
| `/scale?queue=Q` | `{"workers": N, "reason": …, "deadline_at_risk": …, "backlog_tokens": …}` |
| `/metrics` | Prometheus text |

`/scale` has the shape that KEDA's metrics-api trigger reads (`valueLocation: workers`). Its fields
`min`, `max`, `startup_s`, `cooldown_s` override the controller's settings; `host`, `slots` and
`running` come from a host's fleet, which gets its `share` of the workers.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import redis

from headrace.coordination.redis_clock import RedisClock
from headrace.process.http_server import Reply, serve_http
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient
from headrace.setting_fields import QUEUE_NAME
from headrace.settings import Settings
from headrace.telemetry.prometheus import (
    CONTENT_TYPE,
    PrometheusMetrics,
    metrics_in_memory,
)
from headrace.telemetry.prometheus import exposition as exposition_of
from headrace.telemetry.provider import Sample, Telemetry
from producers.scaling.facts import ScalingInputs, read_facts
from producers.scaling.metrics import (
    GAUGES,
    exposition,
    gauges,
)
from producers.scaling.scaler import Recent, Scaler, limits_of
from schemas.errors import ConfigError, MissingExtra

log = get_logger(__name__)

STUCK_S = 120.0  # chosen: a tick that lists a million parts takes seconds

_QUEUE = re.compile(QUEUE_NAME)


@dataclass(slots=True)
class Liveness:
    """When the controller's loop last ran."""

    beat_monotonic: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        self.beat_monotonic = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self.beat_monotonic < STUCK_S


@contextlib.contextmanager
def serve_scaling(
    settings: Settings, client: RedisClient, pulse: Liveness, telemetry: Telemetry | None = None
) -> Iterator[int | None]:
    """Serve on `settings.listen` while the block runs; yields the port, None if it is not set.

    `/metrics` includes what `telemetry` counted; it exports the gauges if it exports metrics.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    scaler = Scaler(
        client, limits_of(settings), settings.max_workers, Recent(client), RedisClock(client)
    )
    telemetry = telemetry or Telemetry()
    telemetry.watch(lambda: _gauges(scaler, client), GAUGES)
    if settings.listen is None:
        yield None
        return
    telemetry.prometheus = telemetry.prometheus or _counted(settings)
    routes = {
        "/healthz": lambda query: _health(pulse),
        "/readyz": lambda query: _ready(pulse, client),
        "/scale": lambda query: _scale(scaler, settings.queue, query),
        "/metrics": lambda query: _metrics(scaler, client, telemetry.prometheus),
    }
    with serve_http(settings.listen, routes) as port:
        yield port


def _health(pulse: Liveness) -> Reply:
    return Reply({"alive": pulse.is_alive}, 200 if pulse.is_alive else 503)


def _ready(pulse: Liveness, client: RedisClient) -> Reply:
    try:
        answers = bool(client.ping())
    except redis.RedisError:
        answers = False
    is_ready = answers and pulse.is_alive
    return Reply({"ready": is_ready, "redis": answers}, 200 if is_ready else 503)


def _scale(scaler: Scaler, default_queue: str, query: Mapping[str, str]) -> Reply:
    queue = query.get("queue", default_queue)
    if not _QUEUE.fullmatch(queue):
        raise ConfigError("queue: letters, digits, '.', '_' and '-', at most 63")
    try:
        return Reply(scaler.answer(queue, query, time.time()))
    except redis.RedisError as error:
        # an error, never a zero: KEDA takes its fallback, a fleet keeps what it has
        return Reply({"error": f"Redis does not answer: {type(error).__name__}"}, 503)


def _metrics(scaler: Scaler, client: RedisClient, counted: PrometheusMetrics | None) -> Reply:
    text = exposition(_gauges(scaler, client))
    if counted is not None:
        text += exposition_of(counted)
    return Reply(text, content_type=CONTENT_TYPE)


def _gauges(scaler: Scaler, client: RedisClient) -> list[Sample]:
    now_at = time.time()
    try:
        facts = read_facts(client, scaler.redis_at(now_at))
        return gauges(facts, scaler.all_wanted(facts, now_at), client.info("memory"), now_at)
    except redis.RedisError:
        return gauges(ScalingInputs((), ()), {}, None, now_at)


def _counted(settings: Settings) -> PrometheusMetrics | None:
    try:
        return metrics_in_memory(bool(settings.label_jobs))
    except MissingExtra:
        return None  # a request of /metrics gets the reason
