"""Finishes a job: writes manifest and `_SUCCESS`, clears its keys, runs the finish hook."""

from __future__ import annotations

import hashlib
import json
import time

import redis

from headrace.coordination.ended_jobs import remember_end
from headrace.process.logs import get_logger
from headrace.queue.queue import MessageQueue
from headrace.redis_client import RedisClient
from producers.records.manifest import build_manifest
from producers.tracking.tracked_job import TrackedJob
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import JobState, Manifest
from schemas.versions import versions

log = get_logger(__name__)


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
