"""`submit`: stores the job, announces it to the controller, and optionally follows it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.live_workers import read_workers
from headrace.coordination.redis_clock import redis_now
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device, hint_of
from producers.capacity.speed_history import fleet_speed
from producers.commands.following import (
    drive_and_show,
    note_lost_parts,
    refusals_reported,
    show_if_over,
)
from producers.commands.session import Session
from producers.driver.job_setup import (
    StoredJob,
    local_workers,
    prepare_job,
    store_job,
    wait_for_input,
)
from producers.driver.patience import patiently
from producers.driver.session import Broker, needed_broker, update_registry
from producers.driver.traced import job_trace
from producers.records.snapshot import take_snapshot
from producers.terminal.console import command
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout, redis_keys
from schemas.records.chunk import InputFile
from schemas.records.job import Job
from schemas.records.manifest import JobState


def submit_job(
    session: Session,
    inputs: Sequence[str],
    output: str,
    *,
    wait: bool,
    on_finish: bool,
    planned: Sequence[InputFile] | None = None,
) -> int:
    """Queue a job; returns the exit code. Prints the job's id on standard output.

    Paths have their dates filled in. `planned` are the files of an earlier plan.

    Raises:
        ConfigError: no broker was named, or `--on-finish` was (`on_finish`) without `--wait`.
    """
    settings, terminal = session.settings, session.terminal
    if on_finish and not wait:
        raise ConfigError(
            "--on-finish belongs to the process that ends the job: add --wait, or give it to the "
            "controller as HEADRACE_ON_FINISH"
        )
    with job_trace(settings) as (trace, telemetry):
        with refusals_reported(session, output):
            broker = needed_broker(settings)
            terminal.warn(*broker.warnings())
            stored = _set_up(session, inputs, output, planned, broker, trace)
        job = stored.job
        if not stored.is_new:
            note_lost_parts(session, stored.store)
            ended = _show_if_stopped(session, stored)
            if ended is not None:
                return ended
        announce_job(broker.client, job.key, job.output)
        if not (wait and session.as_json):  # then the end of the job is the one object
            _show(session, job, stored.is_new)
        if wait:
            return drive_and_show(session, job, stored.store, broker, trace, telemetry)
        if not broker.client.exists(redis_keys.CONTROLLER):
            terminal.warn(
                "no controller is running at this broker, so nothing is published yet: "
                "start `headrace controller`, or submit with --wait"
            )
    return ExitCode.OK


def _set_up(
    session: Session,
    inputs: Sequence[str],
    output: str,
    planned: Sequence[InputFile] | None,
    broker: Broker,
    trace: JobTrace,
) -> StoredJob:
    """The job in its output."""
    settings, terminal = session.settings, session.terminal
    wait_for_input(settings, threading.Event().wait, terminal.note)
    with trace("plan"):
        seen = [
            worker
            for worker in read_workers(broker.client, redis_now(broker.client))
            if worker.queue == settings.queue
        ]
        workers = len(seen) or local_workers(settings, guess_device("cpu"))
        prepared = patiently(
            lambda: prepare_job(
                settings, inputs, output, workers, hint_of(seen), planned=planned
            ),
            settings, terminal.note,
        )  # fmt: skip
        terminal.warn(*prepared.warnings)
        speed = fleet_speed(broker.client, settings.queue, prepared.spec)
        stored = patiently(
            lambda: store_job(settings, prepared, trace, workers, speed, terminal.note),
            settings, terminal.note,
        )  # fmt: skip
        terminal.warn(*stored.warnings)
    return stored


def _show_if_stopped(session: Session, stored: StoredJob) -> int | None:
    """The exit code of a job that has ended, was cancelled or paused, after saying how to continue."""
    job, store = stored.job, stored.store
    over = show_if_over(session, job, store)
    if over is not None:
        return over
    state: JobState
    if store.head(output_layout.CANCELLED) is not None:
        state, code = "cancelled", ExitCode.JOB_CANCELLED
    elif store.head(output_layout.PAUSED) is not None:
        state, code = "paused", ExitCode.OK
    else:
        return None
    warning = update_registry(session.settings, job, state)
    if warning is not None:
        session.terminal.warn(warning)
    if session.as_json:
        session.terminal.print_json(take_snapshot(store, job, None).to_json())
    session.terminal.note(f"this job is {state}; continue with: {command('resume', job.output)}")
    return code


def _show(session: Session, job: Job, is_new: bool) -> None:
    if session.as_json:
        found = {"job": job.id, "output": job.output, "rows": job.rows, "chunks": job.chunks}
        session.terminal.print_json({**found, "new": is_new})
        return
    session.terminal.say(job.id)
    what = "submitted" if is_new else "the same job is there already; adopted"
    session.terminal.note(f"{what}: {job.rows:,} rows in {job.chunks:,} chunks → {job.output}")
