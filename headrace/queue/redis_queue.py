"""A queue in Redis as kombu keeps it: its lists read, and messages of a job withdrawn or purged."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from schemas.errors import MessageRejected
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk, parse_message

# A message in `unacked` is on its way into a worker for milliseconds (no prefetch, early
# acknowledgement). One that stands there this long belongs to a worker that died.
FRESH_S = 15.0


@dataclass(frozen=True, slots=True)
class QueueView:
    """Messages of one queue, and those on their way to a worker."""

    messages: int
    chunks: frozenset[tuple[str, int]]
    """(key of the job, chunk) of every message."""


@dataclass(frozen=True, slots=True)
class ListedQueue:
    """The waiting messages of queues that are lists in Redis."""

    client: Any

    def read(self, queue: str) -> QueueView:
        return read_queue(self.client, queue)

    def withdraw_messages(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        return withdraw_messages(self.client, queue, jobs)

    def purge(self, queue: str, job: str) -> int:
        return purge(self.client, queue, job)


def read_queue(client: Any, queue: str, now_s: float | None = None) -> QueueView:
    """The queue as it is. Raises redis-py's own errors."""
    now = time.time() if now_s is None else now_s
    pipe = client.pipeline(transaction=True)
    pipe.lrange(redis_keys.QUEUE_PREFIX + queue, 0, -1)
    pipe.hgetall(f"{redis_keys.QUEUE_PREFIX}unacked")
    pipe.zrangebyscore(f"{redis_keys.QUEUE_PREFIX}unacked_index", now - FRESH_S, "+inf")
    waiting, unacked, fresh = pipe.execute()
    raw = [*waiting, *_payloads(unacked, set(fresh))]
    found = [m for m in map(message_in, raw) if m is not None]
    return QueueView(len(waiting), frozenset((m.key, c) for m in found for c in m.chunks))


def keep_alive(client: Any, queue: str) -> None:
    """Have the keys of a queue, and the list of jobs, end only when no controller comes any more."""
    pipe = client.pipeline(transaction=False)
    redis_keys.give_life(pipe, queue)
    pipe.expire(redis_keys.JOBS, redis_keys.JOB_LIFE_S)
    pipe.execute()


def announce_job(client: Any, key: str, output: str) -> None:
    """Put a job where controllers look."""
    pipe = client.pipeline(transaction=False)
    pipe.hset(redis_keys.JOBS, key, output)
    pipe.expire(redis_keys.JOBS, redis_keys.JOB_LIFE_S)
    pipe.execute()


def purge(client: Any, queue: str, job: str) -> int:
    """Take the messages of a job out of its queue; returns how many there were."""
    key = redis_keys.QUEUE_PREFIX + queue
    gone = 0
    for raw in client.lrange(key, 0, -1):
        message = message_in(raw)
        if message is not None and message.key == job:
            gone += int(client.lrem(key, 1, raw))
    return gone


def withdraw_messages(client: Any, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
    """Take the waiting messages of these jobs out of the queue; returns those that we really got."""
    key = redis_keys.QUEUE_PREFIX + queue
    found: list[ScoreChunk] = []
    for raw in client.lrange(key, 0, -1):
        message = message_in(raw)
        if message is not None and message.key in jobs and client.lrem(key, 1, raw):
            found.append(message)  # else a worker was quicker
    return found


def forget_unacked(client: Any, job: str) -> None:
    """Take away what a worker took and died with before it said so: kombu would send it later."""
    unacked, index = f"{redis_keys.QUEUE_PREFIX}unacked", f"{redis_keys.QUEUE_PREFIX}unacked_index"
    for tag, value in client.hgetall(unacked).items():
        found = [message_in(raw) for raw in _payloads({tag: value}, {tag})]
        if any(m is not None and m.key == job for m in found):
            client.hdel(unacked, tag)
            client.zrem(index, tag)


def message_in(raw: bytes | str) -> ScoreChunk | None:
    """Our message in kombu's envelope; None for anything else."""
    try:
        envelope = json.loads(raw)
        args = json.loads(base64.b64decode(envelope["body"]))[0]
        return parse_message(args[0])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, MessageRejected):
        return None


def _payloads(unacked: dict[bytes, bytes], fresh: set[bytes]) -> Iterable[bytes]:
    """The envelopes of messages that a worker has just taken."""
    for tag, value in unacked.items():
        if tag in fresh:
            try:
                yield json.dumps(json.loads(value)[0]).encode()
            except (ValueError, IndexError, KeyError, TypeError, RecursionError):
                continue
