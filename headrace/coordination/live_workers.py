"""The workers that are alive: each keeps a hash in Redis, and this module owns it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from schemas.names import redis_keys

PRESENCE_S = 5.0  # chosen: a third of what counts as gone
SEEN_S = 15.0  # three signs of an idle worker; past it a worker counts as gone


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """One worker; times in seconds since the epoch."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    seen_s: float
    dtypes: tuple[str, ...]
    """Precisions its device has."""
    job: str
    """Run key of the job whose chunks it has in hand; empty: it waits for work."""
    chunks: tuple[int, ...]
    model: str = ""
    """What is loaded; empty: nothing yet."""
    is_loading: bool = False
    """It has work in hand whose model is not on its device yet."""
    progress_s: float | None = None
    """When it last gave a batch to its device; None: it has not yet."""

    @property
    def is_busy(self) -> bool:
        return bool(self.job)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_workers(client: Any, now_s: float, within_s: float = SEEN_S) -> Iterator[LiveWorker]:
    """Workers seen within that time, by name. Raises redis-py's own errors."""
    names = sorted(
        n.decode() for n in client.zrangebyscore(redis_keys.WORKERS, now_s - within_s, "+inf")
    )
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(redis_keys.worker(name))
    for name, raw in zip(names, pipe.execute(), strict=True):
        if raw:
            yield _worker(name, {k.decode(): v.decode(errors="replace") for k, v in raw.items()})


def _worker(name: str, told: dict[str, str]) -> LiveWorker:
    job, chunks = _hand(told.get("hand", ""))
    return LiveWorker(
        name=name,
        queue=told.get("queue", ""),
        device=told.get("device", ""),
        host=told.get("host", ""),
        pid=int(told.get("pid", "0") or 0),
        seen_s=float(told.get("seen_s", "0") or 0),
        dtypes=tuple(d for d in told.get("dtypes", "").split(",") if d),
        job=job,
        chunks=chunks,
        model=told.get("model", ""),
        is_loading=bool(job)
        and told.get("model") == "",  # who tells no model at all is another version
        progress_s=float(told["progress_s"]) if "progress_s" in told else None,
    )


def _hand(text: str) -> tuple[str, tuple[int, ...]]:
    try:
        found = json.loads(text) if text else {}
        return str(found.get("job", "")), tuple(sorted(int(c) for c in found.get("chunks", {})))
    except (ValueError, AttributeError, TypeError):
        return "", ()


def heartbeat(client: Any, worker: str, facts: dict[str, str]) -> None:
    """Say that the worker lives; a Redis that is away hears it the next time."""
    now = time.time()
    try:
        pipe = client.pipeline(transaction=False)
        pipe.hset(redis_keys.worker(worker), mapping={**facts, "seen_s": now})
        pipe.expire(redis_keys.worker(worker), redis_keys.WORKER_LIFE_S)
        pipe.zadd(redis_keys.WORKERS, {worker: now})
        pipe.expire(redis_keys.WORKERS, redis_keys.WORKER_LIFE_S)
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
