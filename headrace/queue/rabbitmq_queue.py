"""RabbitMQ as the broker: waiting messages are read from the outbox and checked by its count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from headrace.process.logs import get_logger
from headrace.queue.outbox import Outbox
from headrace.queue.queue import QueueView
from headrace.queue.redis_queue import FRESH_S
from headrace.redis_client import RedisClient
from schemas.errors import BrokerError
from schemas.records.message import SCORE_CHUNK, ScoreChunk

log = get_logger(__name__)

_NOT_FOUND = "404"
COUNT_S = 5.0  # chosen: how often the queue's depth is read while an entry looks stale


@dataclass(slots=True)
class RabbitMQQueue:
    """RabbitMQ's queues, with their entries in Redis. Not thread-safe. See `MessageQueue`."""

    client: RedisClient
    app: Any
    fresh_s: float = FRESH_S
    """Age in seconds at which an entry counts as lost if the queue is empty."""
    outbox: Outbox = field(init=False)
    _counted_monotonic: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.client)

    def send(self, message: ScoreChunk, queue: str) -> None:
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        tag = str(uuid.uuid4())
        try:
            self.outbox.add(queue, tag, message)
        except (RedisError, OSError) as error:
            raise BrokerError(
                f"Redis took no entry of the message: {type(error).__name__}: {error}"
            ) from error
        try:
            self.app.send_task(
                SCORE_CHUNK, args=[message.model_dump(mode="json")], task_id=tag,
                queue=queue, headers={}, ignore_result=True,
                # only a retry reconnects a broken connection to RabbitMQ
                retry=True, retry_policy={"max_retries": 1, "interval_start": 0},
            )  # fmt: skip
        except (KombuError, OSError) as error:
            raise BrokerError(
                f"the queue took no message: {type(error).__name__}: {error}"
            ) from error

    def is_wanted(self, queue: str, tag: str) -> bool:
        from redis.exceptions import RedisError

        try:
            return self.outbox.take(queue, tag)
        except RedisError:
            return True  # the part decides

    def read(self, queue: str) -> QueueView:
        entries = self.outbox.read(queue)
        old = [tag for tag, sent in entries.items() if time.time() - sent.at_s > self.fresh_s]
        if old and self._is_empty(queue):
            lost = self.outbox.remove(queue, old)
            log.warning("message.lost", queue=queue, count=len(lost))
            entries = {tag: sent for tag, sent in entries.items() if tag not in set(old)}
        pairs = ((s.message.key, c) for s in entries.values() for c in s.message.chunks)
        return QueueView(len(entries), frozenset(pairs))

    def withdraw(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        """See `MessageQueue`. The messages stay in RabbitMQ; the workers that get them drop them."""
        entries = self.outbox.read(queue)
        found = [tag for tag, sent in entries.items() if sent.message.key in jobs]
        return [entries[tag].message for tag in self.outbox.remove(queue, found)]

    def purge(self, queue: str, job: str) -> int:
        return len(self.withdraw(queue, {job}))

    def keep_alive(self, queue: str) -> None:
        """Do nothing: RabbitMQ's queues have no expiry, and the outbox renews its own."""

    def depth(self, queue: str) -> int | None:
        """See `MessageQueue`; a queue that does not exist has 0."""
        from amqp.exceptions import ChannelError

        try:
            with self.app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, timeout=5)
                found = connection.default_channel.queue_declare(queue, passive=True)
                return int(found.message_count)
        except Exception as error:  # kombu's, amqp's and the operating system's
            if isinstance(error, ChannelError) and str(error.reply_code) == _NOT_FOUND:
                return 0
            log.warning("broker.unreachable", error_type=type(error).__name__)
            return None

    def _is_empty(self, queue: str) -> bool:
        """True if RabbitMQ has no message in the queue; False if that is not known."""
        now = time.monotonic()
        last = self._counted_monotonic.get(queue, float("-inf"))
        if now - last < min(COUNT_S, self.fresh_s):
            return False
        self._counted_monotonic[queue] = now
        return self.depth(queue) == 0
