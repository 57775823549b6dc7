"""`cancel` and `pause`: write flags to the output and copy them to Redis for the workers."""

from __future__ import annotations

import json
import time
from typing import Literal

import redis

from headrace.process.numbers import plural
from producers.commands.session import Session
from producers.driver.session import broker_if_any, find_job, job_in, update_registry
from producers.terminal.console import command
from schemas.errors import ExitCode, OutputConflict
from schemas.names import output_layout, redis_keys


def cancel_job(session: Session, where: str) -> int:
    return _flag(session, where, output_layout.CANCELLED, "cancelled")


def pause_job(session: Session, where: str) -> int:
    return _flag(session, where, output_layout.PAUSED, "paused")


def clean_output(session: Session, output: str, *, force: bool) -> int:
    """Remove what unfinished writes left behind; parts and records stay.

    An unfinished write looks like a running one, so this needs a finished job or `force`.

    Raises:
        OutputConflict: the job has not ended and `force` is false.
    """
    job, store = job_in(output, session.settings)
    if store.head(output_layout.MANIFEST) is None and not force:
        raise OutputConflict(
            f"job {job.id} has not ended: a worker may be writing to {store.uri}. When none is, say so "
            "with --force"
        )
    gone = store.clean_orphans()
    session.terminal.say(f"removed {plural(len(gone), 'unfinished write')}")
    return ExitCode.OK


def _flag(session: Session, where: str, name: str, state: Literal["cancelled", "paused"]) -> int:
    settings, terminal = session.settings, session.terminal
    job, store = find_job(where, settings)
    if store.head(output_layout.MANIFEST) is not None:
        terminal.say(f"job {job.id} has ended already; nothing to do")
        return ExitCode.OK
    store.create(name, json.dumps({"reason": f"{state} by request", "at_s": time.time()}).encode())
    broker = broker_if_any(settings, job)
    if broker is not None:
        try:
            broker.client.hset(redis_keys.job(job.key), state, "1")
        except redis.RedisError:
            pass  # the controller copies it from the store within seconds
    warning = update_registry(settings, job, state)
    if warning is not None:
        terminal.warn(warning)
    terminal.say(f"{state} job {job.id}; continue with: {command('resume', job.output)}")
    return ExitCode.OK
