"""What was sent and not taken yet, where the messages are in a broker that cannot be read.

RabbitMQ gives a message only to whoever takes it. So each message has an entry here, in Redis,
written before it is sent and taken away by the worker that begins it, and the entries stand for
the queue: a message without one was taken back, and its worker drops it. The two can drift apart
only in the harmless way: an entry whose message is lost is forgotten (`headrace.queue.redis_queue`), and
the controller finds the gap; a message whose entry is lost is dropped, and the same happens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from schemas.errors import MessageRejected
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk, parse_message


@dataclass(frozen=True, slots=True)
class Sent:
    """One message on its way."""

    message: ScoreChunk
    at_s: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The entries of all queues; safe for threads. Errors are redis-py's own."""

    client: Any

    def add(self, queue: str, tag: str, message: ScoreChunk) -> None:
        """Note a message before it is sent; `tag` is its id at Celery."""
        entry = {"at_s": time.time(), "message": message.model_dump(mode="json")}
        pipe = self.client.pipeline(transaction=False)
        pipe.hset(redis_keys.sent(queue), tag, json.dumps(entry))
        pipe.expire(redis_keys.sent(queue), redis_keys.JOB_LIFE_S)
        pipe.execute()

    def take(self, queue: str, tag: str) -> bool:
        """Whether the message is still wanted; it stands in the ledger no more."""
        return bool(self.client.hdel(redis_keys.sent(queue), tag))

    def read(self, queue: str) -> dict[str, Sent]:
        """Every entry of a queue, by tag."""
        stored = self.client.hgetall(redis_keys.sent(queue)).items()
        found = {tag.decode(): _entry(raw) for tag, raw in stored}
        return {tag: sent for tag, sent in found.items() if sent is not None}

    def remove(self, queue: str, tags: Iterable[str]) -> list[str]:
        """Take entries away; those that no worker had taken before."""
        return [tag for tag in tags if self.take(queue, tag)]


def _entry(raw: bytes) -> Sent | None:
    try:
        told = json.loads(raw)
        return Sent(parse_message(told["message"]), float(told["at_s"]))
    except (ValueError, KeyError, TypeError, MessageRejected):
        return None
