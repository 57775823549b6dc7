"""Cancel and pause of a job: the store holds them, Redis has a copy for the workers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from headrace.redis_client import RedisClient
from headrace.storage.store import Store
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job


@dataclass(frozen=True, slots=True)
class JobFlags:
    """The flags that stop a job."""

    cancelled: str | None = None
    """Why it was cancelled; None: it was not."""
    paused: bool = False


def read_flags(store: Store) -> JobFlags:
    """The flags in the output. Raises StorageError."""
    data = store.read(output_layout.CANCELLED)
    return JobFlags(
        cancelled=None if data is None else _reason(data),
        paused=store.head(output_layout.PAUSED) is not None,
    )


def copy_to_redis(client: RedisClient, job: Job, flags: JobFlags) -> None:
    """Set or clear the flags that workers read. Raises redis-py's own errors."""
    key = redis_keys.job(job.key)
    for name, on in (("cancelled", flags.cancelled is not None), ("paused", flags.paused)):
        if on:
            client.hset(key, name, "1")
        else:
            client.hdel(key, name)


def _reason(data: bytes) -> str:
    try:
        return str(json.loads(data)["reason"])
    except (ValueError, KeyError, TypeError):
        return "cancelled"
