"""What waits where RabbitMQ carries the messages: the ledger's entries, held against its own count."""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from headrace.process.logs import get_logger
from headrace.queue.celery_config import ledger_of
from headrace.queue.rabbitmq_ledger import Outbox
from headrace.queue.redis_queue import (
    FRESH_S,
    ListedQueue,
    QueueView,
)
from schemas.records.message import ScoreChunk

log = get_logger(__name__)

COUNT_S = 5.0  # chosen: how often RabbitMQ is asked for its depth while an entry looks forgotten


@dataclass(slots=True)
class LedgerQueue:
    """The waiting messages of RabbitMQ's queues. Not for threads."""

    ledger: Outbox
    app: Any
    fresh_s: float = FRESH_S
    """How old an entry must be before an empty queue speaks against it."""
    _counted_s: dict[str, float] = field(default_factory=dict)

    def read(self, queue: str) -> QueueView:
        """The queue as the ledger has it. Raises redis-py's own errors."""
        entries = self.ledger.read(queue)
        old = [tag for tag, sent in entries.items() if time.time() - sent.at_s > self.fresh_s]
        if old and self._is_empty(queue):
            lost = self.ledger.remove(queue, old)
            log.warning("message.lost", queue=queue, count=len(lost))
            entries = {tag: sent for tag, sent in entries.items() if tag not in set(old)}
        pairs = ((s.message.key, c) for s in entries.values() for c in s.message.chunks)
        return QueueView(len(entries), frozenset(pairs))

    def withdraw_messages(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        """Take back what these jobs have waiting: the messages stay, and will be dropped."""
        entries = self.ledger.read(queue)
        found = [tag for tag, sent in entries.items() if sent.message.key in jobs]
        return [entries[tag].message for tag in self.ledger.remove(queue, found)]

    def purge(self, queue: str, job: str) -> int:
        """Take back what one job has waiting; how many messages there were."""
        return len(self.withdraw_messages(queue, {job}))

    def _is_empty(self, queue: str) -> bool:
        """Whether RabbitMQ has nothing for anybody; not known: no."""
        now = time.monotonic()
        if now - self._counted_s.get(queue, float("-inf")) < min(COUNT_S, self.fresh_s):
            return False
        self._counted_s[queue] = now
        return depth(self.app, queue) == 0


def depth(app: Any, queue: str) -> int | None:
    """Messages that RabbitMQ would give out now; None when it does not answer. No queue is 0."""
    from amqp.exceptions import NotFound

    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            told = connection.default_channel.queue_declare(queue, passive=True)
            return int(told.message_count)
    except NotFound:
        return 0
    except Exception as error:  # kombu's, amqp's and the operating system's
        log.warning("broker.unreachable", error_type=type(error).__name__)
        return None


def queue_of(client: Any, sender: Any) -> ListedQueue | LedgerQueue:
    """The waiting messages of whichever broker the sender sends to."""
    ledger = ledger_of(sender)
    return ListedQueue(client) if ledger is None else LedgerQueue(ledger, sender)
