"""`submit`: stores the job, announces it to the controller, and optionally follows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producers.commands.quality.challenger import (
    Challenge,
    compare_with_challenger,
    store_challenger,
)
from producers.commands.run import (
    drive_and_show,
    note_lost_parts,
    refusals_reported,
    show_if_over,
)
from producers.commands.session import Session
from producers.driver.job_setup import StoredJob
from producers.driver.session import needed_broker, update_registry
from producers.driver.submission import NO_CONTROLLER, announce, store_for_fleet
from producers.driver.traced import job_trace
from producers.records.snapshot import take_snapshot
from producers.terminal.console import command
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
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
    challenge: Challenge | None = None,
) -> int:
    """Queue a job; returns the exit code. Prints the job's id on standard output.

    With `challenge` also a job of another model on a share of the rows.

    Paths have their dates filled in. `planned` are the files of an earlier plan.

    Raises:
        ConfigError: no broker was named, or `--on-finish` was (`on_finish`) without `--wait`.
    """
    settings, terminal = session.settings, session.terminal
    if challenge is not None and wait and session.as_json:
        raise ConfigError("--challenger with --wait prints tables: leave --json or --wait out")
    if on_finish and not wait:
        raise ConfigError(
            "--on-finish belongs to the process that ends the job: add --wait, or give it to the "
            "controller as HEADRACE_ON_FINISH"
        )
    with job_trace(settings) as (trace, telemetry):
        with refusals_reported(session, output):
            broker = needed_broker(settings)
            terminal.warn(*broker.warnings())
            stored = store_for_fleet(
                settings, inputs, output, broker, trace, terminal.note, terminal.warn, planned
            )
        job = stored.job
        other = None
        if challenge is not None:
            other = store_challenger(session, stored, challenge, broker, trace)
            announce(other, broker)
        if not stored.is_new:
            note_lost_parts(session, stored.store)
            ended = _show_if_stopped(session, stored)
            if ended is not None:
                return ended
        has_controller = announce(stored, broker)
        if not (wait and session.as_json):  # then the end of the job is the one object
            _show(session, stored, other)
        if wait:
            code = drive_and_show(session, job, stored.store, broker, trace, telemetry)
            if other is None or code != ExitCode.OK:
                return code
            code = drive_and_show(session, other.job, other.store, broker, trace, telemetry)
            return code or compare_with_challenger(session, job, other.job)
        if not has_controller:
            terminal.warn(f"{NO_CONTROLLER}: start `headrace controller`, or submit with --wait")
    return ExitCode.OK


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


def _show(session: Session, stored: StoredJob, challenger: StoredJob | None) -> None:
    job = stored.job
    if session.as_json:
        found = {**_record(job), "new": stored.is_new}
        if challenger is not None:
            found["challenger"] = {**_record(challenger.job), "new": challenger.is_new}
        session.terminal.print_json(found)
        return
    session.terminal.say(job.id)
    _note(session, stored)
    if challenger is not None:
        _note(session, challenger)
        session.terminal.note(
            f"compare them when both are done: {command('compare', job.output, challenger.job.output)}"
        )


def _record(job: Job) -> dict[str, Any]:
    return {"job": job.id, "output": job.output, "rows": job.rows, "chunks": job.chunks}


def _note(session: Session, stored: StoredJob) -> None:
    job = stored.job
    what = "submitted" if stored.is_new else "the same job is there already; adopted"
    session.terminal.note(f"{what}: {job.rows:,} rows in {job.chunks:,} chunks → {job.output}")
