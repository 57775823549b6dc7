"""Redis as the broker: messages are read and withdrawn in kombu's own lists."""

from __future__ import annotations

import time
import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from headrace.queue import kombu_layout
from headrace.queue.kombu_layout import envelope_of_unacked, message_in, messages_in
from headrace.queue.queue import QueueView
from headrace.redis_client import RedisClient
from schemas.errors import BrokerError
from schemas.names import redis_keys
from schemas.records.message import SCORE_CHUNK, ScoreChunk

# A message in `unacked` is on its way into a worker for milliseconds (no prefetch, early
# acknowledgement). One that is there this long belongs to a worker that died.
FRESH_S = 15.0


@dataclass(frozen=True, slots=True)
class RedisQueue:
    """Queues that are lists in Redis; thread-safe. See `MessageQueue`."""

    client: RedisClient
    app: Any
    """The Celery app that sends; None: this object only reads."""

    def send(self, message: ScoreChunk, queue: str) -> None:
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        try:
            self.app.send_task(
                SCORE_CHUNK, args=[message.model_dump(mode="json")], task_id=str(uuid.uuid4()),
                queue=queue, headers={}, retry=False, ignore_result=True,
            )  # fmt: skip
        except (KombuError, RedisError, OSError) as error:
            raise BrokerError(
                f"the queue took no message: {type(error).__name__}: {error}"
            ) from error

    def is_wanted(self, queue: str, tag: str) -> bool:
        """Always true: a withdrawn message is no longer in the list, so no worker receives it."""
        return True

    def read(self, queue: str, now_s: float | None = None) -> QueueView:
        now = time.time() if now_s is None else now_s
        pipe = self.client.pipeline(transaction=True)
        pipe.lrange(kombu_layout.waiting(queue), 0, -1)
        pipe.hgetall(kombu_layout.UNACKED)
        pipe.zrangebyscore(kombu_layout.UNACKED_INDEX, now - FRESH_S, "+inf")
        waiting, unacked, fresh = pipe.execute()
        taken = [envelope_of_unacked(unacked[tag]) for tag in fresh if tag in unacked]
        found = messages_in([*waiting, *taken])
        keyed = ((m.key, m.chunks) for m in found)
        return QueueView(len(waiting), frozenset((key, c) for key, cs in keyed for c in cs))

    def withdraw(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        key = kombu_layout.waiting(queue)
        found: list[ScoreChunk] = []
        for raw in self.client.lrange(key, 0, -1):
            message = message_in(raw)
            if message is None or message.key not in jobs:
                continue
            # redis-py takes bytes here; its types do not know it
            if self.client.lrem(key, 1, raw):  # type: ignore[arg-type]
                found.append(message)  # otherwise a worker took it first
        return found

    def purge(self, queue: str, job: str) -> int:
        gone = len(self.withdraw(queue, {job}))
        self._forget_unacked(job)
        return gone

    def keep_alive(self, queue: str) -> None:
        pipe = self.client.pipeline(transaction=False)
        for key in kombu_layout.keys_of(queue):
            pipe.expire(key, redis_keys.JOB_LIFE_S)
        pipe.execute()

    def depth(self, queue: str) -> int | None:
        import redis

        try:
            return self.client.llen(kombu_layout.waiting(queue))
        except redis.RedisError:
            return None

    def _forget_unacked(self, job: str) -> None:
        """Delete unacknowledged messages of this job: kombu would deliver them again."""
        for tag, value in self.client.hgetall(kombu_layout.UNACKED).items():
            message = message_in(envelope_of_unacked(value))
            if message is not None and message.key == job:
                self.client.hdel(kombu_layout.UNACKED, tag)
                self.client.zrem(kombu_layout.UNACKED_INDEX, tag)
