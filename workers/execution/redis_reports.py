"""Reports of a worker through Redis: failures, rejected messages, load times, released chunks.

All of it is advisory. If Redis is unreachable a report is lost, logged once, and the controller
finds out later.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import redis

from headrace.coordination.redis_clock import redis_now
from headrace.process.logs import get_logger
from headrace.queue.dead_letter import dead_letter
from headrace.queue.queue import MessageQueue
from headrace.redis_client import RedisClient
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.message import ScoreChunk
from schemas.records.model_key import speed_key

log = get_logger(__name__)

SAY_AGAIN_S = 10.0  # chosen: an outage of a night is 3,000 lines


@dataclass(slots=True)
class RedisReports:
    """Reports to the controller, to other workers and to people. No method raises."""

    client: RedisClient
    queue: MessageQueue
    """The queue to which a drain publishes released chunks."""
    _said_monotonic: float = float("-inf")

    def dead_letter(self, body: Any, why: str) -> None:
        """Move a message that this worker must not execute to the dead-letter list."""
        log.warning("message.rejected", reason=why)
        try:
            dead_letter(self.client, body, why)
        except redis.RedisError as error:
            self.redis_away(error)

    def reject_job(self, message: ScoreChunk, why: str) -> None:
        """Dead-letter a message whose job this worker cannot reach, and report it for the job.

        If no worker can reach it, the job would wait forever: the controller ends it with the
        reason.
        """
        self.dead_letter(message.model_dump(mode="json"), why)
        try:
            pipe = self.client.pipeline()
            pipe.hincrby(redis_keys.job(message.key), "refused", 1)
            pipe.hset(redis_keys.job(message.key), "refused_why", why)
            pipe.expire(redis_keys.job(message.key), redis_keys.JOB_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def report_failure(
        self, key: str, chunk: int, cause: str, why: str, *, waits: bool = False
    ) -> None:
        """Report why a chunk of this job just failed: the store may have no room for its record.

        `waits`: the worker waits for a store, and the attempt is not counted.
        """
        try:
            report: dict[str, Any] = {
                "at_s": redis_now(self.client),
                "chunk": chunk,
                "why": why[:500],
                "cause": cause,
            }
            report |= {"waits": True} if waits else {}
            pipe = self.client.pipeline()
            pipe.hset(redis_keys.job(key), "trouble", json.dumps(report))
            pipe.expire(redis_keys.job(key), redis_keys.JOB_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def report_load_time(self, job: Job, seconds: float) -> None:
        """Report the load time of the job's model: moving workers between queues depends on it."""
        try:
            pipe = self.client.pipeline(transaction=False)
            pipe.hset(redis_keys.MODEL_LOAD_SECONDS, speed_key(job), seconds)
            pipe.expire(redis_keys.MODEL_LOAD_SECONDS, redis_keys.SPEEDS_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def publish_again(self, message: ScoreChunk, chunks: list[int], queue: str) -> None:
        """Publish released chunks; the controller would do it too, only later."""
        if not chunks:
            return
        again = message.model_copy(update={"chunks": tuple(chunks)})
        try:
            self.queue.send(again, queue)
        except Exception as error:  # kombu's and redis-py's; the controller finds the gap
            self.redis_away(error)

    def redis_away(self, error: Exception) -> None:
        """Log that Redis does not answer, but not for each batch of an outage."""
        now = time.monotonic()
        if now - self._said_monotonic >= SAY_AGAIN_S:
            self._said_monotonic = now
            log.warning("broker.unreachable", error_type=type(error).__name__)
