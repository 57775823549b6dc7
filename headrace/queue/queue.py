"""The port to the queues that carry messages to workers: what the controller and the workers need.

A broker is one file beside this one, and a row in `headrace.queue.open`. Celery receives the
messages in a worker; everything else goes through here.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from schemas.records.message import ScoreChunk


@dataclass(frozen=True, slots=True)
class QueueView:
    """Messages of one queue, and those on their way to a worker."""

    messages: int
    """Waiting for a worker."""
    chunks: frozenset[tuple[str, int]]
    """(key of the job, chunk) of every message, those on their way included."""


class MessageQueue(Protocol):
    """The messages of all queues at one broker. Errors of reading are redis-py's own."""

    def send(self, message: ScoreChunk, queue: str) -> None:
        """Put a message on the queue. Raises BrokerError: the broker is away, or takes no writes."""

    def is_wanted(self, queue: str, tag: str) -> bool:
        """Whether the message that a worker received was not withdrawn; `tag` is Celery's id of it.

        Called once for each message, which counts as taken from then on. True with Redis away: the
        part decides.
        """

    def read(self, queue: str) -> QueueView:
        """What waits in the queue."""

    def withdraw(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        """Withdraw the waiting messages of these jobs (by key); those that no worker had taken."""

    def purge(self, queue: str, job: str) -> int:
        """Withdraw all that is left of a job, also what a worker took and died with.

        How many messages were waiting.
        """

    def keep_alive(self, queue: str) -> None:
        """Renew the expiry of what the broker keeps of the queue in Redis."""

    def depth(self, queue: str) -> int | None:
        """Messages that a worker could receive now; None when the broker does not answer."""
