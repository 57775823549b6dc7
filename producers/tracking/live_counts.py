"""Keeps the live counters of a job equal to its parts, from all workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.job_counters import (
    count_in,
    counted,
    reset_counters,
)
from headrace.redis_client import RedisClient
from producers.records.manifest import ReceiptBook
from schemas.names import redis_keys
from schemas.records.job import Job


@dataclass(slots=True)
class LiveCounts:
    """The counters of one job in Redis. Raises redis-py's own errors and StorageError."""

    job: Job
    client: RedisClient
    controller: str
    book: ReceiptBook

    def begin(self) -> None:
        """Take over the counters as they are, or start at zero if Redis does not have the job."""
        self.client.hdel(redis_keys.job(self.job.key), "refused", "refused_why")
        reset_counters(self.client, self.job.key, self.controller, self._facts())

    def announce(self) -> None:
        """Add the job to the list that other controllers read."""
        announce_job(self.client, self.job.key, self.job.output)

    def is_known(self) -> bool:
        """Whether Redis still has what `begin` wrote."""
        return bool(self.client.hexists(redis_keys.job(self.job.key), "epoch"))

    def counted(self) -> set[int]:
        """Chunks that are in the counters."""
        return counted(self.client, self.job.key)

    def count(self, chunks: Sequence[int]) -> None:
        """Count chunks whose parts were found in the store; those counted already are left out."""
        if chunks:
            count_in(self.client, self.job.key, self.book.read(chunks))

    def count_again(self, gone: Collection[int], done: Sequence[int]) -> None:
        """Start at zero and count `done`, since the parts of `gone` were counted and are lost."""
        self.book.forget(gone)
        reset_counters(self.client, self.job.key, self.controller, self._facts(), anew=True)
        self.count(done)

    def _facts(self) -> dict[str, Any]:
        return {"output": self.job.output, "chunks": self.job.chunks, "rows": self.job.rows}
