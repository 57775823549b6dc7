"""`run`: scores a corpus on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from headrace.process.numbers import plural
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device
from producers.commands.following import (
    drive_and_show,
    note_lost_parts,
    refusals_reported,
    show_if_over,
)
from producers.commands.session import Session
from producers.driver.job_end import clear_stop_flags
from producers.driver.job_setup import (
    StoredJob,
    local_workers,
    prepare_job,
    require_device,
    speed_here,
    store_job,
    wait_for_input,
)
from producers.driver.patience import patiently
from producers.driver.traced import job_trace
from producers.local.fleet import LocalStack
from producers.local.worker_packages import require_worker_packages
from schemas.records.chunk import InputFile


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
            require_worker_packages(settings.task)
            stored, workers = _set_up(session, inputs, output, planned, trace)
        return _drive(session, stored, workers, trace, telemetry, started, here)


def _set_up(
    session: Session,
    inputs: Sequence[str],
    output: str,
    planned: Sequence[InputFile] | None,
    trace: JobTrace,
) -> tuple[StoredJob, int]:
    """The job in its output, and the number of workers here."""
    settings, terminal = session.settings, session.terminal
    wait_for_input(settings, threading.Event().wait, terminal.note)
    hint = guess_device(settings.device)
    require_device(settings, hint)
    workers = local_workers(settings, hint)
    with trace("plan"):
        prepared = patiently(
            lambda: prepare_job(settings, inputs, output, workers, planned=planned),
            settings, terminal.note,
        )  # fmt: skip
        terminal.warn(*prepared.warnings)
        speed = speed_here(prepared, hint, workers)
        stored = patiently(
            lambda: store_job(settings, prepared, trace, workers, speed, terminal.note),
            settings, terminal.note,
        )  # fmt: skip
        terminal.warn(*stored.warnings)
    return stored, workers


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
