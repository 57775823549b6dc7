"""`headrace.run` and `headrace.submit`: what the commands of these names do, as functions."""

from __future__ import annotations

import os
import threading
import warnings
from datetime import date
from typing import Unpack

from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.api.inputs import Input, addresses_of, is_table, store_table
from producers.api.job import Job, require_finished
from producers.api.options import JobOptions, settings_of
from producers.api.progress import shown
from producers.driver.drive import OnProgress, drive_here
from producers.driver.job_end import clear_stop_flags, end_of
from producers.driver.job_setup import StoredJob, set_up_here
from producers.driver.session import needed_broker
from producers.driver.submission import NO_CONTROLLER, announce, store_for_fleet
from producers.driver.traced import job_trace
from producers.local.worker_packages import require_worker_packages
from producers.records.lost_parts import reopen_if_incomplete
from producers.submission.dates import fill_dates, logical_date
from schemas.errors import ConfigError, JobCancelled
from schemas.names import output_layout


def run(
    input: Input,
    output: str | os.PathLike[str],
    *,
    progress: bool | OnProgress = True,
    **options: Unpack[JobOptions],
) -> Job:
    """Score a corpus on this machine: start workers, run the job to its end, stop them.

    `input` is a path, a glob, an address or several; or a table or data set of pyarrow, a frame of
    pandas or polars. A table is stored in the output first. The same call again is the same job:
    only what is missing is computed.

    Raises:
        JobFailed: more rows failed than `error_threshold` allows, or chunks were parked.
        JobCancelled: it was cancelled meanwhile.
        MissingExtra: this machine lacks a package that workers need.
        UsageError: of another kind, as the command says it.
    """
    settings, inputs, output, store = _filled(input, output, options)
    require_worker_packages(settings.task, engine=settings.engine, vllm_python=settings.vllm_python)
    with job_trace(settings) as (trace, telemetry):
        warned: list[str] = []
        stored, _ = set_up_here(settings, inputs, output, trace, _warn, warned.append)
        for warning in warned:
            _warn(warning)
        job = Job(stored.job, stored.store, settings)
        if not stored.is_new:
            reopen_if_incomplete(store)
            over = end_of(stored.job, store)
            if over is not None and over.snapshot.state == "finished":
                return job
            clear_stop_flags(store)
        with shown(progress) as on_progress:
            end = drive_here(
                stored.job, store, settings, trace, telemetry, on_progress, threading.Event()
            )
    for warning in end.warnings:
        _warn(warning)
    require_finished(end.snapshot)
    return job


def submit(input: Input, output: str | os.PathLike[str], **options: Unpack[JobOptions]) -> Job:
    """Queue a corpus for a fleet and return at once; `broker_url` or the environment names it.

    `input` is as in `run`. The same call again is the same job.

    Raises:
        ConfigError: no broker was named. BrokerError: it does not answer.
        JobCancelled: the job is there already, cancelled or paused; nothing was changed.
        UsageError: of another kind, as the command says it.
    """
    settings, inputs, output, store = _filled(input, output, options)
    with job_trace(settings) as (trace, _):
        broker = needed_broker(settings)
        try:
            stored = store_for_fleet(settings, inputs, output, broker, trace, _warn, _warn)
            if not stored.is_new:
                reopen_if_incomplete(store)
            _refuse_stopped(stored)
            if end_of(stored.job, store) is None and not announce(stored, broker):
                _warn(f"{NO_CONTROLLER}: start `headrace controller`, or call wait()")
        finally:
            broker.close()
    return Job(stored.job, stored.store, settings)


def _refuse_stopped(stored: StoredJob) -> None:
    for name in (output_layout.CANCELLED, output_layout.PAUSED):
        if not stored.is_new and stored.store.head(name) is not None:
            raise JobCancelled(
                f"job {stored.job.id} in {stored.job.output} was stopped: headrace resume continues it"
            )


def _filled(
    given: Input, output: str | os.PathLike[str], options: JobOptions
) -> tuple[Settings, list[str], str, Store]:
    """Settings, inputs and output with their dates, and the output's store; a table is stored."""
    settings = settings_of(options)
    day = logical_date(settings.date, date.today())
    paths = {name: getattr(settings, name) for name in ("reuse", "wait_for", "model")}
    dated = {k: fill_dates(v, day) for k, v in paths.items() if v is not None}
    settings = settings.model_copy(update=dated)
    target = fill_dates(os.fspath(output), day)
    store = open_store(target, settings)
    if is_table(given):
        if settings.pattern is not None:
            raise ConfigError("pattern has no meaning for a table")
        settings = settings.model_copy(update={"literal": True})
        return settings, [store_table(given, store)], target, store
    inputs = addresses_of(given)
    if not settings.literal:
        inputs = [fill_dates(path, day) for path in inputs]
    return settings, inputs, target, store


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
