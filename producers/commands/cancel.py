"""`cancel`, `pause` and `clean`: stop a job, and tidy the output of one that has ended."""

from __future__ import annotations

from headrace.process.numbers import plural
from producers.commands.session import Session
from producers.driver.session import find_job, job_in
from producers.driver.stop import Stop, stop_job
from producers.terminal.console import command
from schemas.errors import ExitCode, OutputConflict
from schemas.names import output_layout


def cancel_job(session: Session, where: str) -> int:
    return _stop(session, where, "cancelled")


def pause_job(session: Session, where: str) -> int:
    return _stop(session, where, "paused")


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


def _stop(session: Session, where: str, state: Stop) -> int:
    settings, terminal = session.settings, session.terminal
    job, store = find_job(where, settings)
    stopped = stop_job(job, store, settings, state)
    if stopped.had_ended:
        terminal.say(f"job {job.id} has ended already; nothing to do")
        return ExitCode.OK
    terminal.warn(*stopped.warnings)
    terminal.say(f"{state} job {job.id}; continue with: {command('resume', job.output)}")
    return ExitCode.OK
