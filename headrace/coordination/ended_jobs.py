"""The jobs that ended recently, in Redis: for metrics that outlive a job's own keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import redis
from pydantic import TypeAdapter, ValidationError

from headrace.coordination.redis_clock import redis_now
from headrace.redis_client import RedisClient
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.manifest import Manifest

KEPT = 1_000  # chosen: some 100 kB; more than end in an hour
RECENT_S = 3600.0
"""Chosen: an alert about a job that failed fires for this long, then the job is yesterday's."""
CAUSES = ("parked", "error_rows", "input_changed", "model_changed", "missing_extra", "model_error")
"""The reasons that a metric tells apart; all others are `other`, since labels must be few."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """How one job ended."""

    queue: str
    state: str
    reason: str
    """One of `CAUSES`, or `other`; empty for a job that finished."""
    is_late: bool
    """It ended after its deadline."""
    at_s: float
    """When it ended, by Redis's clock."""


_ENDED = TypeAdapter(EndedJob)


def reason_of(manifest: Manifest) -> str:
    """Why a job did not finish, as one of few words."""
    if manifest.state == "finished":
        return ""
    if manifest.cause in CAUSES:
        return manifest.cause
    if manifest.parked:
        causes = {p.cause for p in manifest.parked}
        return next((c for c in CAUSES if causes == {c}), "parked")
    return "error_rows" if "error rows" in manifest.reason else "other"


def remember_end(client: RedisClient, job: Job, manifest: Manifest) -> None:
    """Note how the job ended. Raises redis-py's own errors."""
    deadline_s = job.options.deadline_s
    is_late = deadline_s is not None and manifest.finished_s > deadline_s
    ended = EndedJob(
        job.options.queue, manifest.state, reason_of(manifest), is_late, redis_now(client)
    )
    pipe = client.pipeline(transaction=False)
    pipe.lpush(redis_keys.ENDED, _ENDED.dump_json(ended))
    pipe.ltrim(redis_keys.ENDED, 0, KEPT - 1)
    pipe.expire(redis_keys.ENDED, redis_keys.ENDED_LIFE_S)
    pipe.execute()


def read_ended(client: RedisClient, within_s: float = RECENT_S) -> Iterator[EndedJob]:
    """The jobs that ended within that time, the latest first. Raises redis-py's own errors."""
    now = redis_now(client)
    try:
        found = client.lrange(redis_keys.ENDED, 0, KEPT - 1)
    except redis.ResponseError:  # the key is another program's
        return
    for raw in found:
        try:
            ended = _ENDED.validate_json(raw)
        except ValidationError:
            continue  # another version's
        if now - ended.at_s < within_s:
            yield ended
