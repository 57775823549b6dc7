"""`cancel` and `pause`: objects in the output, copied to Redis for the workers' sake."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

import redis

from headrace.process.numbers import plural
from producers.terminal.context import (
    broker_if_any,
    find_job,
    job_in,
    out,
    remember,
    settings_of,
)
from schemas.errors import ExitCode, OutputConflict
from schemas.names import output_layout, redis_keys


def cancel_job(where: str, flags: dict[str, Any]) -> int:
    return _flag(where, flags, output_layout.CANCELLED, "cancelled")


def pause_job(where: str, flags: dict[str, Any]) -> int:
    return _flag(where, flags, output_layout.PAUSED, "paused")


def clean_output(output: str, flags: dict[str, Any], *, force: bool) -> int:
    """Remove what unfinished writes left behind; parts and records stay.

    A write that is under way looks like one that died, so it is never told by age: the job must
    have ended, or somebody must say that nobody works on it.

    Raises:
        OutputConflict: the job has not ended and `force` was not said.
    """
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    if store.head(output_layout.MANIFEST) is None and not force:
        raise OutputConflict(
            f"job {job.id} has not ended: a worker may be writing to {store.uri}. When none is, say so "
            "with --force"
        )
    gone = store.clean_orphans()
    out.print(f"removed {plural(len(gone), 'unfinished write')}", highlight=False)
    return ExitCode.OK


def _flag(
    where: str, flags: dict[str, Any], name: str, state: Literal["cancelled", "paused"]
) -> int:
    settings = settings_of(flags)
    job, store = find_job(where, settings)
    if store.head(output_layout.MANIFEST) is not None:
        out.print(f"job {job.id} has ended already; nothing to do", highlight=False)
        return ExitCode.OK
    store.create(name, json.dumps({"reason": f"{state} by request", "at_s": time.time()}).encode())
    broker = broker_if_any(settings, job)
    if broker is not None:
        try:
            broker.client.hset(redis_keys.job(job.key), state, "1")
        except redis.RedisError:
            pass  # the controller copies it from the store within seconds
    remember(settings, job, state)
    out.print(
        f"{state} job {job.id}; continue with: headrace resume {job.output}",
        highlight=False,
        soft_wrap=True,
    )
    return ExitCode.OK
