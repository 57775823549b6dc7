"""Ends a job that is settled, was cancelled, or cannot end well: manifest, `_SUCCESS`, clean-up."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass

import redis

from headrace.coordination.ended_jobs import remember_end
from headrace.coordination.leases import LeaseBook
from headrace.process.logs import get_logger
from headrace.queue.queue import MessageQueue
from headrace.redis_client import RedisClient
from headrace.tracing.job_trace import JobTrace
from producers.records.manifest import build_manifest, is_hopeless
from producers.tracking.tracked_job import TrackedJob
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import JobState, Manifest
from schemas.versions import versions

log = get_logger(__name__)


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


def finish(
    tracked: TrackedJob, queue: MessageQueue, stopped: tuple[JobState, str] | None = None
) -> Manifest:
    """Write how the job ended, after everything in flight has settled.

    Safe to call twice: the manifest is replaced by an equal one and `_SUCCESS` is created once.
    Raises StorageError if the store rejects a write.
    """
    job, store = tracked.job, tracked.store
    manifest = build_manifest(
        job,
        tracked.receipts(),
        tracked.parked(),
        finished_s=time.time(),
        versions={**job.versions, **versions()},
        stopped=stopped,
        cause=tracked.cause,
    )
    data = manifest.model_dump_json(indent=1).encode()
    store.replace(output_layout.MANIFEST, data)
    if manifest.state == "finished":
        digest = hashlib.sha256(data).hexdigest()
        _succeed(tracked, digest)
    _remember(tracked.client, job, manifest)
    clear(tracked.client, queue, job)
    _log(job, manifest)
    return manifest


def _remember(client: RedisClient, job: Job, manifest: Manifest) -> None:
    try:
        remember_end(client, job, manifest)
    except redis.RedisError as error:
        log.warning("broker.unreachable", error_type=type(error).__name__)


def _log(job: Job, manifest: Manifest) -> None:
    """Log the end: a failed job as an error, a cancelled job not."""
    t, state, why = manifest.totals, manifest.state, manifest.reason
    if state == "failed":
        log.error("job.failed", job=job.id, state=state, rows=t.rows, errors=t.errors, reason=why)
    else:
        event = "job.finished" if state == "finished" else "job.failed"
        log.info(event, job=job.id, state=state, rows=t.rows, errors=t.errors, reason=why)


def _succeed(tracked: TrackedJob, digest: str) -> None:
    mark = json.dumps({"job": tracked.job.id, "manifest_sha256": digest}).encode()
    if tracked.store.create(output_layout.SUCCESS, mark):
        return
    known = tracked.store.read(output_layout.SUCCESS)
    if known != mark:  # an earlier end, written again by a retry: the manifest moved on
        tracked.store.delete(output_layout.SUCCESS)
        if not tracked.store.create(output_layout.SUCCESS, mark):
            raise StorageError(
                f"{tracked.store.uri}/{output_layout.SUCCESS} is written by another process too"
            )


def clear(client: RedisClient, queue: MessageQueue, job: Job) -> None:
    """Delete the finished job's keys in Redis."""
    try:
        queue.purge(job.options.queue, job.key)
        leases = list(client.scan_iter(match=redis_keys.lease(job.key, 0)[:-1] + "*", count=1000))
        pipe = client.pipeline()
        pipe.delete(*redis_keys.of_job(job.key), *leases)
        pipe.hdel(redis_keys.JOBS, job.key)
        pipe.execute()
        queue.keep_alive(job.options.queue)
    except redis.RedisError as error:
        log.warning("broker.unreachable", error_type=type(error).__name__)
