"""Hosts that get no work for a while, since they failed again and again where others did not.

A host here is one fleet of workers: the processes that one `headrace-worker` keeps on a machine see
the same mounts, packages and devices. A fleet that is started again has a new name, and is no
longer excluded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import redis
from pydantic import TypeAdapter, ValidationError

from headrace.coordination.redis_clock import redis_now
from headrace.redis_client import RedisClient
from schemas.names import redis_keys

FIRST_S = 60.0  # chosen: a mount comes back within a minute, or a person is needed
LONGEST_S = 1800.0  # chosen: the longest wait for a host that was repaired


@dataclass(frozen=True, slots=True)
class ExcludedHost:
    """Why a host gets no work, and for how long; times by Redis's clock (`redis_clock`)."""

    host: str
    cause: str
    """The class of the error, as in an attempt's record."""
    message: str
    since_s: float
    until_s: float
    times: int = 1
    """How often in a row; each time lasts twice as long."""


_EXCLUDED = TypeAdapter(ExcludedHost)


def host_of(worker: str) -> str:
    """The fleet that a worker belongs to; a worker with a name of its own is a fleet of one."""
    fleet, _, slot = worker.rpartition("-")
    return fleet if fleet and slot.isdigit() else worker


def exclude(
    client: RedisClient, host: str, cause: str, message: str, now_at: float | None = None
) -> ExcludedHost:
    """Exclude the host, for twice as long as the last time. Raises redis-py's own errors."""
    now = redis_now(client) if now_at is None else now_at
    before = _parse(client.hget(redis_keys.EXCLUDED, host))
    times = 1 if before is None or now - before.until_s > LONGEST_S else before.times + 1
    lasts_s = min(LONGEST_S, FIRST_S * 2.0 ** (times - 1))
    found = ExcludedHost(host, cause, message[:500], now, now + lasts_s, times)
    pipe = client.pipeline(transaction=False)
    pipe.hset(redis_keys.EXCLUDED, host, _EXCLUDED.dump_json(found))
    pipe.expire(redis_keys.EXCLUDED, redis_keys.EXCLUDED_LIFE_S)
    pipe.execute()
    return found


def read_excluded(client: RedisClient, now_at: float | None = None) -> dict[str, ExcludedHost]:
    """The hosts that are excluded now, by name. Raises redis-py's own errors."""
    now = redis_now(client) if now_at is None else now_at
    try:
        found = [_parse(raw) for raw in client.hvals(redis_keys.EXCLUDED)]
    except redis.ResponseError:  # the key is another program's
        return {}
    return {e.host: e for e in found if e is not None and now < e.until_s}


def is_excluded(client: RedisClient, host: str, now_at: float | None = None) -> bool:
    """Whether this host gets no work now. Raises redis-py's own errors."""
    now = redis_now(client) if now_at is None else now_at
    try:
        found = _parse(client.hget(redis_keys.EXCLUDED, host))
    except redis.ResponseError:  # the key is another program's
        return False
    return found is not None and now < found.until_s


def hosts_of(workers: Iterable[str]) -> frozenset[str]:
    """The fleets that these workers belong to."""
    return frozenset(map(host_of, workers))


def _parse(raw: bytes | str | None) -> ExcludedHost | None:
    try:
        return None if raw is None else _EXCLUDED.validate_json(raw)
    except ValidationError:
        return None
