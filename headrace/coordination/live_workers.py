"""The workers that are alive: each keeps a hash in Redis, and this module owns it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from schemas.names import redis_keys

PRESENCE_S = 5.0  # chosen: a third of what counts as gone


def sign_presence(client: Any, worker: str, facts: dict[str, str]) -> None:
    """Say that the worker lives; a Redis that is away hears it the next time."""
    now = time.time()
    try:
        pipe = client.pipeline(transaction=False)
        pipe.hset(redis_keys.worker(worker), mapping={**facts, "seen_s": now})
        pipe.expire(redis_keys.worker(worker), redis_keys.WORKER_LIFE_S)
        pipe.zadd(redis_keys.WORKERS, {worker: now})
        pipe.expire(redis_keys.WORKERS, redis_keys.WORKER_LIFE_S)
        redis_keys.give_life(pipe, facts["queue"])
        pipe.zremrangebyscore(redis_keys.WORKERS, "-inf", now - redis_keys.WORKER_LIFE_S)
        pipe.execute()
    except redis.RedisError:
        return


def forget_workers(client: Any, names: Sequence[str]) -> None:
    """Nobody counts these workers any more. Raises redis-py's own errors."""
    if names:
        pipe = client.pipeline(transaction=False)
        pipe.zrem(redis_keys.WORKERS, *names)
        pipe.delete(*map(redis_keys.worker, names))
        pipe.execute()
