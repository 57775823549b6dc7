"""A message of a job, and what handling it leaves in the store and in Redis."""

from __future__ import annotations

from typing import Any

import redis

from schemas.names import output_layout, redis_keys
from schemas.records.message import ScoreChunk
from tests.fake_jobs import FakeJob

Steps = list[str]
"""The named steps that were reached."""


def body(job: FakeJob, *chunks: int, **changes: Any) -> dict[str, Any]:
    message = ScoreChunk(job=job.id, output=job.job.output, chunks=chunks, traceparent=None)
    return {**message.model_dump(mode="json"), **changes}


def parts(job: FakeJob) -> list[str]:
    return [info.name for info in job.store.list(output_layout.DATA)]


def left_in_redis(client: redis.Redis, job: FakeJob) -> list[str]:
    """Leases, marks and live counters: what only current work may have."""
    key = job.job.key
    found = [_text(k) for k in client.keys(f"{redis_keys.PREFIX}lease:*")]
    return found + [k for k in (redis_keys.marks(key), redis_keys.live(key)) if client.exists(k)]


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key
