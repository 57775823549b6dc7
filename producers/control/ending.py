"""Ends a job that is settled, was cancelled, or cannot end well."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.coordination.leases import LeaseBook
from headrace.queue.queue import MessageQueue
from headrace.redis_client import RedisClient
from headrace.tracing.job_trace import JobTrace
from producers.control.finish import finish
from producers.records.manifest import is_hopeless
from producers.tracking.tracked_job import TrackedJob
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.manifest import JobState, Manifest


def too_many_errors(job: Job, error_rows: int) -> str | None:
    """Why a job with that many error rows can no longer succeed; None: it can."""
    if not is_hopeless(job, error_rows):
        return None
    return f"more than {job.options.error_threshold:.2%} of the rows are errors"


def stopped_as(cancelled: str | None, fatal: str | None) -> tuple[JobState, str] | None:
    """The state and reason with which a job is stopped; None: it continues."""
    if fatal is not None:
        return "failed", fatal
    return None if cancelled is None else ("cancelled", cancelled)


@dataclass(slots=True)
class JobEnding:
    """Writes the manifest of a job once nothing of it is in flight."""

    client: RedisClient
    queue: MessageQueue
    keep_traces: bool = True

    def end_if_over(self, tracked: TrackedJob, trace: JobTrace) -> Manifest | None:
        """The manifest, if the job has ended now; its trace is ended and saved with it.

        Raises redis-py's own errors and StorageError; calling it again is safe.
        """
        if tracked.flags.cancelled is None and tracked.fatal is None:
            tracked.fatal = too_many_errors(tracked.job, tracked.error_rows)
        stopped = stopped_as(tracked.flags.cancelled, tracked.fatal)
        if stopped is not None:
            if not self._is_quiet(tracked):
                return None
            tracked.recount()
        elif not (tracked.chunks.is_settled and tracked.recount()):
            return None
        return self._end(tracked, trace, stopped)

    def _is_quiet(self, tracked: TrackedJob) -> bool:
        """Stop the job's workers; returns whether all work on devices has ended or been released."""
        job = tracked.job
        self.queue.purge(job.options.queue, job.key)
        if tracked.fatal is not None:
            self.client.hset(redis_keys.job(job.key), "cancelled", "1")
        return not LeaseBook(self.client, job.key, 1.0).marks()

    def _end(
        self, tracked: TrackedJob, trace: JobTrace, stopped: tuple[JobState, str] | None
    ) -> Manifest:
        with trace("finish"):
            manifest = finish(tracked, self.queue, stopped)
        totals = manifest.totals
        trace.end(
            manifest.state,
            rows=totals.rows,
            ok_rows=totals.ok,
            error_rows=totals.errors,
            parked=totals.parked,
        )
        if self.keep_traces:
            trace.save(tracked.store)
        return manifest
