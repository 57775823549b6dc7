"""The hosts that work for the tracked jobs, and the exclusion of those that only fail."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from headrace.coordination.excluded_hosts import exclude, host_of, read_excluded
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient
from producers.control.demand import DemandReporter
from producers.tracking.tracked_job import TrackedJob

log = get_logger(__name__)

READ_S = 1.0  # chosen: as often as the live workers are read


@dataclass(slots=True)
class HostWatch:
    """Which hosts may be sent work. Not thread-safe. Raises redis-py's own errors."""

    client: RedisClient
    reporter: DemandReporter
    _excluded: frozenset[str] = frozenset()
    _read_monotonic: float = field(default=float("-inf"))

    def of_queue(self, queue: str) -> frozenset[str]:
        """Hosts with a live worker of the queue, without those that are excluded."""
        if time.monotonic() - self._read_monotonic >= READ_S:
            self._read_monotonic = time.monotonic()
            self._excluded = frozenset(read_excluded(self.client))
        workers = self.reporter.workers()
        return frozenset(host_of(w.name) for w in workers if w.queue == queue) - self._excluded

    def judge(self, tracked: TrackedJob, hosts: frozenset[str]) -> None:
        """Exclude those of the hosts that fail the job's chunks where others do not."""
        for failure in tracked.failures.at_fault(hosts):
            found = exclude(self.client, failure.host, failure.cause, failure.message)
            tracked.failures.forget(failure.host)
            self._excluded |= {failure.host}
            log.error(
                "host.excluded",
                job=tracked.job.id,
                host=failure.host,
                cause=failure.cause,
                error_message=failure.message,
                seconds=round(found.until_s - found.since_s),
            )
