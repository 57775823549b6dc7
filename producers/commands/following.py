"""A driven job at the terminal: its progress, its end, and what to do after Ctrl-C."""

from __future__ import annotations

import contextlib

from headrace.process.numbers import plural
from headrace.process.signals import interruptible
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.commands.session import Session
from producers.driver.drive import drive, drive_here
from producers.driver.follow import Interrupted, JobEnd, OnProgress
from producers.driver.session import Broker
from producers.local.fleet import LocalStack
from producers.records.lost_parts import reopen_if_incomplete
from producers.terminal.console import command
from producers.terminal.job_end import show_end
from producers.terminal.progress import JobProgress
from schemas.errors import ExitCode
from schemas.records.job import Job


def drive_and_show(
    session: Session,
    job: Job,
    store: Store,
    broker: Broker | None,
    trace: JobTrace,
    telemetry: Telemetry,
    *,
    started: float | None = None,
    here: LocalStack | None = None,
) -> int:
    """Drive the job on the broker's fleet, or here if there is no broker; returns the exit code."""
    settings, terminal = session.settings, session.terminal
    try:
        with interruptible() as stop, progress(session) as on_progress:
            if broker is not None:
                end = drive(job, store, broker, settings, trace, telemetry, on_progress, stop)
            else:
                end = drive_here(
                    job, store, settings, trace, telemetry, on_progress, stop,
                    started=started, here=here,
                )  # fmt: skip
    except Interrupted:
        if broker is not None:
            terminal.note(
                "no longer following; with a controller running, the job continues: "
                + command("watch", job.id)
            )
        else:
            terminal.note("\ninterrupted: committed parts stay. Continue with:")
            terminal.note(f"  {command('resume', job.output)}")
        return ExitCode.INTERRUPTED
    return show(session, end)


def progress(session: Session) -> contextlib.AbstractContextManager[OnProgress]:
    """A function that shows the snapshots it gets; it shows nothing with `--json`."""
    if session.as_json:
        return contextlib.nullcontext(lambda _: None)
    return JobProgress(session.terminal.err)


def show(session: Session, end: JobEnd) -> int:
    """Print how the job ended; returns the exit code."""
    session.terminal.warn(*end.warnings)
    terminal, now = session.terminal, end.snapshot
    return show_end(terminal, now, end.seconds, end.report, as_json=session.as_json)


def note_lost_parts(session: Session, store: Store) -> None:
    """Reopen a finished job that has lost parts since, and print that."""
    lost = reopen_if_incomplete(store)
    if lost:
        gone = "its part is" if len(lost) == 1 else "their parts are"
        session.terminal.note(
            f"{plural(len(lost), 'chunk')} of this finished job, the first is {lost[0]}: {gone} "
            "gone; computing what is missing"
        )
