"""The last verdicts of `headrace drift`, in Redis: for metrics of a command that ends at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from headrace.coordination.redis_clock import redis_now
from headrace.redis_client import RedisClient
from schemas.names import redis_keys

RECENT_S = 26 * 3600.0
"""Chosen: a nightly verdict lasts until the next one, two hours late."""


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """What one comparison found."""

    queue: str
    at_s: float
    """By Redis's clock."""
    features: Mapping[str, float] = field(default_factory=dict)
    """Distance by feature, as a part of its limit: above 1 is drift."""
    expected_accuracy: float | None = None


_VERDICT = TypeAdapter(DriftVerdict)


def remember_drift(
    client: RedisClient,
    queue: str,
    reference: str,
    features: Mapping[str, float],
    expected_accuracy: float | None,
) -> None:
    """Keep a verdict in place of the last one against this reference. Raises redis-py's errors."""
    verdict = DriftVerdict(queue, redis_now(client), dict(features), expected_accuracy)
    pipe = client.pipeline(transaction=False)
    pipe.hset(redis_keys.DRIFT, f"{queue} {reference}"[:512], _VERDICT.dump_json(verdict))
    pipe.expire(redis_keys.DRIFT, redis_keys.DRIFT_LIFE_S)
    pipe.execute()


def read_drift(client: RedisClient, within_s: float = RECENT_S) -> Iterator[DriftVerdict]:
    """The verdicts of that time. Raises redis-py's own errors."""
    now = redis_now(client)
    for raw in client.hgetall(redis_keys.DRIFT).values():
        try:
            verdict = _VERDICT.validate_json(raw)
        except ValidationError:
            continue  # another version's
        if now - verdict.at_s < within_s:
            yield verdict
