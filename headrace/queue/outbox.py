"""The outbox: messages sent to a broker that cannot be read, and not yet taken.

RabbitMQ shows a message only to the consumer that receives it. So each message has an entry in
Redis, written before it is sent and removed by the worker that starts it. The entries represent the
queue. A message without an entry was withdrawn, and its worker drops it. A difference between the
two is harmless: an entry whose message is lost is removed (`headrace.queue.rabbitmq_queue`) and the
controller finds the gap; a message whose entry is lost is dropped, with the same effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from headrace.redis_client import RedisClient, as_text
from schemas.errors import MessageRejected
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk, parse_message


@dataclass(frozen=True, slots=True)
class Sent:
    """The entry of one message."""

    message: ScoreChunk
    at_s: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The entries of all queues; thread-safe. Errors are redis-py's own."""

    client: RedisClient

    def add(self, queue: str, tag: str, message: ScoreChunk) -> None:
        """Add an entry before its message is sent; `tag` is its id in Celery."""
        entry = {"at_s": time.time(), "message": message.model_dump(mode="json")}
        pipe = self.client.pipeline(transaction=False)
        pipe.hset(redis_keys.sent(queue), tag, json.dumps(entry))
        pipe.expire(redis_keys.sent(queue), redis_keys.JOB_LIFE_S)
        pipe.execute()

    def take(self, queue: str, tag: str) -> bool:
        """Remove the entry; returns whether it was there, that is, the message is still wanted."""
        return bool(self.client.hdel(redis_keys.sent(queue), tag))

    def read(self, queue: str) -> dict[str, Sent]:
        """Every entry of a queue, by tag."""
        stored = self.client.hgetall(redis_keys.sent(queue)).items()
        found = {as_text(tag): _entry(raw) for tag, raw in stored}
        return {tag: sent for tag, sent in found.items() if sent is not None}

    def remove(self, queue: str, tags: Iterable[str]) -> list[str]:
        """Remove entries; returns those that were still there."""
        return [tag for tag in tags if self.take(queue, tag)]


def _entry(raw: bytes | str) -> Sent | None:
    try:
        told = json.loads(raw)
        return Sent(parse_message(told["message"]), float(told["at_s"]))
    except (ValueError, KeyError, TypeError, RecursionError, MessageRejected):
        return None
