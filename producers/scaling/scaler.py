"""Answers how many workers a queue wants, from facts that are at most a second old."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from headrace.coordination.redis_clock import RedisClock
from headrace.coordination.redis_values import as_record
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient, as_text
from headrace.settings import Settings
from producers.scaling.decision import (
    Host,
    Limits,
    ScalingDecision,
    decide_workers,
    share_out,
)
from producers.scaling.facts import ScalingInputs, read_facts
from schemas.errors import ConfigError
from schemas.names import redis_keys

log = get_logger(__name__)

HOST_S = 30.0  # chosen: a host polls every two seconds; a host silent this long is gone


MAX_WITHOUT_HOSTS = 8  # chosen: the limit if neither a setting nor a host has one


_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")


_LAST = TypeAdapter(ScalingDecision)
_MOST = 1e12
"""Above any count of slots and any time: a larger value, or NaN, is invalid."""


FACTS_S = 0.5  # chosen: a thousand hosts ask 500 times per second, of a thousand workers' hashes


@dataclass(slots=True)
class Recent:
    """The facts in Redis, read again when they are half a second old. Thread-safe."""

    client: RedisClient
    _facts: ScalingInputs | None = None
    _read_monotonic: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def facts(self, now_at: float) -> ScalingInputs:
        """Raises redis-py's own errors."""
        with self._lock:
            if self._facts is None or time.monotonic() - self._read_monotonic > FACTS_S:
                self._facts, self._read_monotonic = (
                    read_facts(self.client, now_at),
                    time.monotonic(),
                )
            return self._facts


@dataclass(frozen=True, slots=True)
class Scaler:
    """Calls the pure decision with the facts in Redis. Safe for threads and several controllers."""

    client: RedisClient
    limits: Limits
    max_workers: int | None = None
    recent: Recent | None = None
    """Facts shared by many requests; None: each request reads Redis."""
    clock: RedisClock | None = None
    """Redis's, for what other hosts wrote; deadlines and cooldowns are by this host's."""

    def answer(self, queue: str, query: Mapping[str, str], now_at: float) -> dict[str, Any]:
        """The body of `/scale`.

        Raises:
            ConfigError: a field is no number. Also raises redis-py's own errors.
        """
        host = _host_of(query)
        if host is not None:
            self._remember(queue, host, self.redis_at(now_at))
        hosts = self._hosts(queue, self.redis_at(now_at))
        at = self.redis_at(now_at)
        facts = self.recent.facts(at) if self.recent else read_facts(self.client, at)
        demands, fleet = facts.demands(queue), facts.fleet(queue)
        wanted = self._decide(queue, facts, _limits_of(self._limits(hosts), query), now_at)
        body = {
            "queue": queue,
            "workers": wanted.workers,
            "reason": wanted.reason,
            "deadline_at_risk": wanted.deadline_at_risk,
            "backlog_tokens": round(sum(d.backlog_tokens for d in demands)),
            "backlog_chunks": sum(d.chunks for d in demands),
            "work_s": round(sum(d.work_s for d in demands), 1),
            "load_s": facts.load_s(queue),
            "busy": fleet.busy,
            "idle": fleet.idle,
        }
        if host is not None:
            body["share"] = share_out(wanted.workers, hosts).get(host.name, 0)
        return body

    def redis_at(self, now_at: float) -> float:
        """Now by the clock that all hosts share; without one by the caller's."""
        return now_at if self.clock is None else self.clock.now()

    def all_wanted(self, facts: ScalingInputs, now_at: float) -> dict[str, ScalingDecision]:
        """The decision of each queue, for the metrics: the last answer, if it is not old.

        Otherwise decide now without storing: callers may pass other limits.
        """
        found = {}
        for queue in facts.queues:
            before, at = self._before(queue)
            if before is None or now_at - at > redis_keys.SCALE_FRESH_S:
                limits = self._limits(self._hosts(queue, self.redis_at(now_at)))
                before = decide_workers(
                    facts.demands(queue), facts.fleet(queue), limits, now_at, before
                )
            found[queue] = before
        return found

    def _decide(
        self, queue: str, facts: ScalingInputs, limits: Limits, now_at: float
    ) -> ScalingDecision:
        before, _ = self._before(queue)
        wanted = decide_workers(facts.demands(queue), facts.fleet(queue), limits, now_at, before)
        if wanted.deadline_at_risk and not (before and before.deadline_at_risk):
            log.warning("scaling.deadline_at_risk", queue=queue, reason=wanted.reason)
        kept = json.dumps(asdict(wanted) | {"at_s": now_at})
        self.client.set(redis_keys.scale(queue), kept, ex=redis_keys.SCALE_LIFE_S)
        return wanted

    def _before(self, queue: str) -> tuple[ScalingDecision | None, float]:
        """The last answer, and when it was given."""
        raw = self.client.get(redis_keys.scale(queue))
        if raw is None:
            return None, 0.0
        try:
            return _LAST.validate_python(as_record(raw)), float(as_record(raw).get("at_s", 0.0))
        except (ValidationError, ValueError, TypeError):
            return None, 0.0

    def _limits(self, hosts: list[Host]) -> Limits:
        most = self.max_workers or sum(h.slots for h in hosts) or MAX_WITHOUT_HOSTS
        return replace(self.limits, max_workers=most)

    def _remember(self, queue: str, host: Host, now_at: float) -> None:
        told = json.dumps({"slots": host.slots, "running": host.running, "at_s": now_at})
        pipe = self.client.pipeline(transaction=False)
        pipe.hset(redis_keys.hosts(queue), host.name, told)
        pipe.expire(redis_keys.hosts(queue), redis_keys.SCALE_LIFE_S)
        pipe.execute()

    def _hosts(self, queue: str, now_at: float) -> list[Host]:
        found = []
        for name, raw in self.client.hgetall(redis_keys.hosts(queue)).items():
            host = _parse_host(name, raw, now_at)
            if host is not None:
                found.append(host)
            else:
                self.client.hdel(redis_keys.hosts(queue), name)
        return found


def limits_of(settings: Settings) -> Limits:
    """The settings as the decision takes them."""
    return Limits(
        min_workers=settings.min_workers,
        max_workers=settings.max_workers or MAX_WITHOUT_HOSTS,
        startup_s=settings.startup_s,
        cooldown_s=settings.cooldown_s,
        window_s=settings.window_s,
        price_per_hour=settings.price_per_hour,
        budget_per_hour=settings.budget_per_hour,
    )


def _parse_host(name: bytes | str, raw: bytes | str, now_at: float) -> Host | None:
    """A host that polled recently; None for another, and for an invalid record."""
    told = as_record(raw)
    numbers = [told.get(key) for key in ("slots", "running", "at_s")]
    slots, running, at = [
        n if isinstance(n, int | float) and 0 <= n < _MOST else -1 for n in numbers
    ]
    is_one = min(slots, running, at) >= 0 and _HOST.fullmatch(as_text(name))
    return (
        Host(as_text(name), int(slots), int(running)) if is_one and now_at - at < HOST_S else None
    )


def _host_of(query: Mapping[str, str]) -> Host | None:
    name = query.get("host")
    if name is None:
        return None
    if not _HOST.fullmatch(name):
        raise ConfigError("host: letters, digits, '.', '_' and '-', at most 255")
    return Host(name, int(_number(query, "slots", 0)), int(_number(query, "running", 0)))


def _limits_of(limits: Limits, query: Mapping[str, str]) -> Limits:
    """The limits, overridden by the query."""
    return replace(
        limits,
        min_workers=int(_number(query, "min", limits.min_workers)),
        max_workers=int(_number(query, "max", limits.max_workers)),
        startup_s=_number(query, "startup_s", limits.startup_s),
        cooldown_s=_number(query, "cooldown_s", limits.cooldown_s),
    )


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(query.get(name, default))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise ConfigError(f"{name}: a number from 0 to 1,000,000")
    return value
