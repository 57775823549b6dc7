"""The list of jobs in Redis, where controllers and the scaler look for work."""

from __future__ import annotations

from headrace.redis_client import RedisClient, as_text
from schemas.names import redis_keys


def announce_job(client: RedisClient, key: str, output: str) -> None:
    """Put a job on the list; again renews the list's expiry. Raises redis-py's own errors."""
    pipe = client.pipeline(transaction=False)
    pipe.hset(redis_keys.JOBS, key, output)
    pipe.expire(redis_keys.JOBS, redis_keys.JOB_LIFE_S)
    pipe.execute()


def announced_jobs(client: RedisClient) -> dict[str, str]:
    """The output of each job on the list, by job key. Raises redis-py's own errors."""
    stored = client.hgetall(redis_keys.JOBS)
    return {as_text(key): as_text(output) for key, output in stored.items()}
