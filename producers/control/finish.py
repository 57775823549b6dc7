"""The end of a job: manifest, `_SUCCESS`, keys cleared, and whoever wants to know told."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import redis

from headrace.process.logs import get_logger
from headrace.queue.redis_queue import forget_unacked, purge
from headrace.settings import process_environment
from producers.control.reconcile import Following
from producers.records.manifest import fold
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import JobState, Manifest
from schemas.versions import versions

log = get_logger(__name__)

_HOOK_S = 60.0  # chosen: whoever is told must not hold the controller


def finish(following: Following, stopped: tuple[JobState, str] | None = None) -> Manifest:
    """Write how the job ended, once everything in flight has settled.

    Safe to call twice: the manifest is replaced by an equal one and `_SUCCESS` is created once.
    Raises StorageError when the store does not take it.
    """
    job, store = following.job, following.store
    manifest = fold(
        job,
        following.receipts(),
        following.parked(),
        finished_s=time.time(),
        versions={**job.versions, **versions()},
        stopped=stopped,
    )
    data = manifest.model_dump_json(indent=1).encode()
    store.replace(output_layout.MANIFEST, data)
    if manifest.state == "finished":
        digest = hashlib.sha256(data).hexdigest()
        _succeed(following, digest)
    clear(following.client, job)
    log.info("job.finished" if manifest.state == "finished" else "job.failed", job=job.id, state=manifest.state,
             rows=manifest.totals.rows, errors=manifest.totals.errors, reason=manifest.reason)  # fmt: skip
    return manifest


def _succeed(following: Following, digest: str) -> None:
    mark = json.dumps({"job": following.job.id, "manifest_sha256": digest}).encode()
    if following.store.create(output_layout.SUCCESS, mark):
        return
    known = following.store.read(output_layout.SUCCESS)
    if known != mark:  # an earlier end, written again by a retry: the manifest moved on
        following.store.delete(output_layout.SUCCESS)
        if not following.store.create(output_layout.SUCCESS, mark):
            raise StorageError(
                f"{following.store.uri}/{output_layout.SUCCESS} is written by somebody else too"
            )


def clear(client: Any, job: Job) -> None:
    """A finished job leaves nothing behind in Redis."""
    try:
        purge(client, job.options.queue, job.key)
        forget_unacked(client, job.key)
        leases = list(client.scan_iter(match=redis_keys.lease(job.key, 0)[:-1] + "*", count=1000))
        pipe = client.pipeline()
        pipe.delete(*redis_keys.of_job(job.key), *leases)
        pipe.hdel(redis_keys.JOBS, job.key)
        redis_keys.give_life(pipe, job.options.queue)
        pipe.execute()
    except redis.RedisError as error:
        log.warning("broker.unreachable", error_type=type(error).__name__)


def tell(job: Job, manifest: Manifest, target: str | None) -> None:
    """Run the command, or POST to the URL, that wants to know how the job ended.

    It comes from the settings of the process that ends the job, never from the job: whoever may
    write a record must not run commands here, and a hook's URL is often a secret.
    """
    if not target:
        return
    facts = {
        "job": job.id,
        "output": job.output,
        "state": manifest.state,
        "reason": manifest.reason,
        "rows": manifest.totals.rows,
        "ok": manifest.totals.ok,
        "errors": manifest.totals.errors,
        "seconds": round(manifest.finished_s - manifest.submitted_s, 3),
    }
    try:
        if target.startswith(("http://", "https://")):
            _post(target, facts)
        else:
            _command(target, facts)
    except (OSError, subprocess.SubprocessError, urllib.error.URLError, ValueError) as error:
        log.error("on_finish.failed", job=job.id, error_type=type(error).__name__)


def _post(url: str, facts: dict[str, Any]) -> None:
    request = urllib.request.Request(
        url, json.dumps(facts).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=_HOOK_S) as reply:
        reply.read()


def _command(command: str, facts: dict[str, Any]) -> None:
    """The facts come as `HEADRACE_JOB`, `HEADRACE_STATE` … and as JSON on standard input."""
    variables = {f"HEADRACE_FINISHED_{k.upper()}": str(v) for k, v in facts.items()}
    subprocess.run(
        shlex.split(command),
        input=json.dumps(facts).encode(),
        env=process_environment(**variables),
        timeout=_HOOK_S,
        check=True,
    )
