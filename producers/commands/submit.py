"""`submit`: stores the job, announces it to the controller, and optionally follows it."""

from __future__ import annotations

from collections.abc import Sequence

from producers.commands.following import (
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
            stored = store_for_fleet(
                settings, inputs, output, broker, trace, terminal.note, terminal.warn, planned
            )
        job = stored.job
        if not stored.is_new:
            note_lost_parts(session, stored.store)
            ended = _show_if_stopped(session, stored)
            if ended is not None:
                return ended
        has_controller = announce(stored, broker)
        if not (wait and session.as_json):  # then the end of the job is the one object
            _show(session, job, stored.is_new)
        if wait:
            return drive_and_show(session, job, stored.store, broker, trace, telemetry)
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


def _show(session: Session, job: Job, is_new: bool) -> None:
    if session.as_json:
        found = {"job": job.id, "output": job.output, "rows": job.rows, "chunks": job.chunks}
        session.terminal.print_json({**found, "new": is_new})
        return
    session.terminal.say(job.id)
    what = "submitted" if is_new else "the same job is there already; adopted"
    session.terminal.note(f"{what}: {job.rows:,} rows in {job.chunks:,} chunks → {job.output}")
