"""Stops a worker from taking messages while its host is excluded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import redis

from headrace.coordination.excluded_hosts import host_of, is_excluded
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient

log = get_logger(__name__)


class TakesQueues(Protocol):
    """What Celery's consumer offers."""

    def cancel_task_queue(self, queue: str) -> None: ...
    def add_task_queue(self, queue: str) -> None: ...


@dataclass(slots=True)
class Admission:
    """Stops and resumes the consumer; `look` is called regularly, in the consumer's thread."""

    client: RedisClient
    worker: str
    queue: str
    consumer: TakesQueues
    is_stopped: bool = False

    def look(self) -> None:
        """Stop or resume, as Redis says; if Redis is unreachable nothing changes."""
        try:
            excluded = is_excluded(self.client, host_of(self.worker))
        except redis.RedisError:
            return
        if excluded == self.is_stopped:
            return
        self.is_stopped = excluded
        if excluded:
            log.warning("worker.excluded", worker=self.worker, queue=self.queue)
            self.consumer.cancel_task_queue(self.queue)
        else:
            log.info("worker.admitted", worker=self.worker, queue=self.queue)
            self.consumer.add_task_queue(self.queue)
