"""`resume` and `retry`: continue a job that is stored in its output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace.output.plan_file import PlanTable
from headrace.process.numbers import plural
from headrace.settings import load_settings
from headrace.storage.store import Store
from producers.commands.run import drive_and_show, note_lost_parts, run_job, show_if_over
from producers.commands.session import Session, with_dates
from producers.commands.submit import submit_job
from producers.driver.job_end import clear_stop_flags, is_finished
from producers.driver.patience import patiently
from producers.driver.restart import prepare_again, release_parked, send_again
from producers.driver.session import job_in, needed_broker
from producers.driver.traced import job_trace
from producers.models.info import ModelInfo
from producers.submission.repeat import repeated_settings
from producers.submission.unchanged import verify_answers_unchanged, verify_inputs_unchanged
from producers.terminal.console import command
from schemas.errors import ConfigError, ExitCode
from schemas.records.job import Job


def resume_job(session: Session, output: str, *, wait: bool) -> int:
    """Continue the job of an output."""
    job, store, model = _checked(session, output)
    note_lost_parts(session, store)
    over = show_if_over(session, job, store) if is_finished(store) else None
    if over is not None:
        return over
    verify_answers_unchanged(job, model)
    clear_stop_flags(store)
    return _go_on(session, job, store, wait=wait)


def retry_errors(
    session: Session, output: str, new: str | None, flags: dict[str, Any], *, wait: bool
) -> int:
    """Start a new job into another output: ok rows of the first are copied, others computed."""
    if new is None:
        raise ConfigError("say where to: headrace retry --errors OUTPUT --output NEW; parts stay")
    settings = session.settings
    job, store, _ = _checked(session, output)
    again = load_settings(**{**flags, **repeated_settings(job), "reuse": store.uri})
    session, _, (new,) = with_dates(replace(session, settings=again), (), (new,))
    files = PlanTable.load(store).files
    patterns = job.inputs.patterns
    if settings.broker_url is None:
        return run_job(session, patterns, new, planned=files)
    return submit_job(session, patterns, new, wait=wait, on_finish=False, planned=files)


def retry_parked(session: Session, output: str, *, parked: bool, wait: bool) -> int:
    """Publish the parked chunks of an output again."""
    if not parked:
        raise ConfigError("say what to retry: --parked, or --errors with --output NEW")
    job, store, _ = _checked(session, output)
    count = release_parked(job, store, session.settings)
    session.terminal.note(f"tried again: {plural(count, 'parked chunk')}")
    if count == 0:
        return ExitCode.OK
    return _go_on(session, job, store, wait=wait)


def _checked(session: Session, output: str) -> tuple[Job, Store, ModelInfo | None]:
    """The job of an output, its input and model found as planned; waits for a store that is away."""
    settings, note = session.settings, session.terminal.note

    def check() -> tuple[Job, Store, ModelInfo | None]:
        job, store = job_in(output, settings)
        return job, store, verify_inputs_unchanged(job, store, settings, note)

    return patiently(check, settings, note)


def _go_on(session: Session, job: Job, store: Store, *, wait: bool) -> int:
    """Drive the job on the fleet of a named broker, else on this machine."""
    settings = session.settings
    prepare_again(job, store, settings)
    with job_trace(settings) as (trace, telemetry):
        trace.adopt(job, store)
        if settings.broker_url is None:
            return drive_and_show(session, job, store, None, trace, telemetry)
        broker = needed_broker(settings)
        session.terminal.warn(*broker.warnings())
        has_controller = send_again(job, broker)
        if wait or not has_controller:
            return drive_and_show(session, job, store, broker, trace, telemetry)
    session.terminal.note(f"handed to the controller: {command('watch', job.id)}")
    return ExitCode.OK
