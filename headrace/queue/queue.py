"""The port to the queues that carry messages to workers.

A broker is one file beside this one, and a row in `headrace.queue.open`. In a worker, Celery
receives the messages; everything else goes through this port.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from schemas.records.message import ScoreChunk


@dataclass(frozen=True, slots=True)
class QueueView:
    """The messages of one queue, including those on their way to a worker."""

    messages: int
    """Messages that wait for a worker."""
    chunks: frozenset[tuple[str, int]]
    """(job key, chunk) of every message, including those on their way."""


class MessageQueue(Protocol):
    """The messages of all queues at one broker. Errors of reading are redis-py's own."""

    def send(self, message: ScoreChunk, queue: str) -> None:
        """Send a message. Raises BrokerError: the broker is unreachable, or rejects writes."""

    def is_wanted(self, queue: str, tag: str) -> bool:
        """Whether a received message was not withdrawn; `tag` is Celery's id of it.

        Called once per message, which counts as taken from then on. True if Redis is unreachable:
        the part decides.
        """

    def read(self, queue: str) -> QueueView:
        """The messages that wait in the queue."""

    def withdraw(self, queue: str, jobs: AbstractSet[str]) -> list[ScoreChunk]:
        """Withdraw the waiting messages of these jobs (by key); returns those withdrawn."""

    def purge(self, queue: str, job: str) -> int:
        """Withdraw all messages of a job, also those whose worker took them and died.

        Returns how many messages were waiting.
        """

    def keep_alive(self, queue: str) -> None:
        """Renew the expiry of the broker's keys for the queue in Redis."""

    def depth(self, queue: str) -> int | None:
        """Number of messages that a worker could receive now; None if the broker does not answer."""
