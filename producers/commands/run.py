"""`run`: scores a corpus on this machine; and how each command shows a job that it drives.

`submit`, `resume`, `train` and `watch` show progress, the end, and what to do after Ctrl-C in the
same way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from headrace.process.numbers import plural
from headrace.process.signals import interruptible
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.commands.session import Session
from producers.control.notify import run_refusal_hook
from producers.driver.drive import Interrupted, OnProgress, drive, drive_here
from producers.driver.job_end import JobEnd, clear_stop_flags, end_of
from producers.driver.job_setup import StoredJob, set_up_here
from producers.driver.session import Broker, update_registry
from producers.driver.traced import job_trace
from producers.local.fleet import LocalStack
from producers.local.worker_packages import require_worker_packages
from producers.records.lost_parts import reopen_if_incomplete
from producers.terminal.console import command
from producers.terminal.job_end import show_end
from producers.terminal.progress import JobProgress
from schemas.errors import ExitCode, HeadraceError
from schemas.records.chunk import InputFile
from schemas.records.job import Job


def run_job(
    session: Session,
    inputs: Sequence[str],
    output: str,
    *,
    planned: Sequence[InputFile] | None = None,
    here: LocalStack | None = None,
) -> int:
    """Plan, start Redis and workers, drive the job to its end; returns the exit code.

    Paths have their dates filled in. `planned` are the files of an earlier plan; `here` may have
    been started already.
    """
    settings = session.settings
    started = time.time()
    with job_trace(settings) as (trace, telemetry):
        with refusals_reported(session, output):
            require_worker_packages(
                settings.task, engine=settings.engine, vllm_python=settings.vllm_python
            )
            stored, workers = set_up_here(
                settings,
                inputs,
                output,
                trace,
                session.terminal.note,
                session.terminal.warn,
                planned,
            )
        return _drive(session, stored, workers, trace, telemetry, started, here)


def _drive(
    session: Session,
    stored: StoredJob,
    workers: int,
    trace: JobTrace,
    telemetry: Telemetry,
    started: float,
    here: LocalStack | None,
) -> int:
    job = stored.job
    if not stored.is_new:
        note_lost_parts(session, stored.store)
        over = show_if_over(session, job, stored.store)
        if over is not None:
            return over
        clear_stop_flags(stored.store)
    if not session.as_json:
        session.terminal.note(
            f"job {job.id}: {plural(job.rows, 'row')} in {plural(job.chunks, 'chunk')}, "
            f"{plural(workers, 'worker')} → {job.output}{'' if stored.is_new else ' (resumed)'}"
        )
    return drive_and_show(
        session, job, stored.store, None, trace, telemetry, started=started, here=here
    )


# -- a driven job at the terminal


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
            terminal.note()  # after the ^C
            terminal.note("interrupted: committed parts stay. Continue with:")
            terminal.note(f"  {command('resume', job.output)}")
        return ExitCode.INTERRUPTED
    return show(session, end)


@contextlib.contextmanager
def refusals_reported(session: Session, output: str) -> Iterator[None]:
    """Calls `--on-finish` for a job that is refused in the block: it has no manifest to tell of it."""
    started = time.monotonic()
    try:
        yield
    except HeadraceError as error:
        seconds = time.monotonic() - started
        run_refusal_hook(output, error, seconds, session.settings.on_finish)
        raise


def show_if_over(session: Session, job: Job, store: Store) -> int | None:
    """The exit code of a job that has ended before, after saying so; None: something is left to do."""
    over = end_of(job, store)
    if over is None:
        return None
    warning = update_registry(session.settings, job, over.snapshot.state)
    if warning is not None:
        session.terminal.warn(warning)
    session.terminal.note("this job has ended already; nothing was computed")
    return show(session, over)


def progress(session: Session) -> contextlib.AbstractContextManager[OnProgress]:
    """A function that shows the snapshots it gets; it shows nothing with `--json`."""
    if session.as_json:
        return contextlib.nullcontext(lambda _: None)
    return JobProgress(session.terminal.err)


def show(session: Session, end: JobEnd) -> int:
    """Print how the job ended; returns the exit code."""
    session.terminal.warn(*end.warnings)
    terminal, now = session.terminal, end.snapshot
    return show_end(terminal, now, end.seconds, end.report, end.log, as_json=session.as_json)


def note_lost_parts(session: Session, store: Store) -> None:
    """Reopen a finished job that has lost parts since, and print that."""
    lost = reopen_if_incomplete(store)
    if lost:
        gone = "its part is" if len(lost) == 1 else "their parts are"
        session.terminal.note(
            f"{plural(len(lost), 'chunk')} of this finished job, the first is {lost[0]}: {gone} "
            "gone; computing what is missing"
        )
