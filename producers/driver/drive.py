"""Drives a stored job to its end: with workers of its own on this machine, or on a fleet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from headrace.settings import Settings, cache_folder, state_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device
from producers.capacity.speed_history import record_speed
from producers.control.controller import Controller
from producers.driver.follow import (
    JobEnd,
    OnProgress,
    follow,
    job_end,
    load_report,
    run_hook,
    write_report_if_able,
)
from producers.driver.job_setup import local_shape, local_workers
from producers.driver.session import Broker, broker_of, update_registry
from producers.local.broker_note import advertise_local_broker
from producers.local.fleet import LocalStack
from producers.local.worker_packages import require_worker_packages
from producers.records.snapshot import take_snapshot
from schemas.errors import OutputConflict
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest


def drive(
    job: Job,
    store: Store,
    broker: Broker,
    settings: Settings,
    trace: JobTrace,
    telemetry: Telemetry,
    on_progress: OnProgress,
    stop: threading.Event,
) -> JobEnd:
    """Reconcile and follow the job in this process to its end, on the workers of a fleet.

    Raises:
        Interrupted: `stop` was set; if a controller runs, the job continues.
    """
    started = time.time()
    controller = Controller(
        broker.client,
        broker.sender,
        emitter=telemetry,
        keep_traces=settings.traces,
        open_store=partial(open_store, settings=settings),
    )
    try:
        with trace("follow"):
            now = follow(
                job, store, broker, controller, on_progress, stop,
                give_up_after_s=settings.give_up_after_s,
            )  # fmt: skip
    finally:
        controller.close()
    warning = update_registry(settings, job, now.state)
    write_report_if_able(store, settings)
    run_hook(job, store, settings)
    return job_end(now, store, time.time() - started, warning)


def drive_here(
    job: Job,
    store: Store,
    settings: Settings,
    trace: JobTrace,
    telemetry: Telemetry,
    on_progress: OnProgress,
    stop: threading.Event,
    *,
    started: float | None = None,
    here: LocalStack | None = None,
) -> JobEnd:
    """The same with own workers, for as long as the job takes; `here` may be started already.

    `started` is when the command started, in seconds since the epoch; default: now.

    Raises:
        MissingExtra: this machine lacks a package that its workers need.
        Interrupted: `stop` was set; the workers have drained.
        HeadraceError: the workers ended by themselves.
    """
    require_worker_packages(job.spec.task)
    started = time.time() if started is None else started
    with here or LocalStack() as here, _started(here, settings, job) as broker:
        controller = Controller(
            broker.client,
            broker.sender,
            least_workers=settings.workers or 1,
            emitter=telemetry,
            keep_traces=settings.traces,
            open_store=partial(open_store, settings=settings),
        )
        try:
            with here.draining(load_report) as fleet, trace("follow"):
                now = follow(
                    job, store, broker, controller, on_progress, stop, fleet.check,
                    give_up_after_s=settings.give_up_after_s,
                )  # fmt: skip
        finally:
            controller.close()
    warning = update_registry(settings, job, now.state)
    if job.key in controller.ended:
        hint = guess_device(settings.device)
        workers = local_workers(settings, hint)
        shape = local_shape(hint, workers)
        record_speed(cache_folder(), shape, workers, job, controller.ended[job.key])
    write_report_if_able(store, settings)
    run_hook(job, store, settings)
    end = job_end(now, store, time.time() - started, warning)
    return replace(end, log=str(fleet.log))


def end_of(job: Job, store: Store) -> JobEnd | None:
    """The end of a job that has ended before; None when there is something left to do."""
    now = take_snapshot(store, job, None)
    if now.finished_s is None:
        return None
    return job_end(now, store, now.finished_s - now.submitted_s)


@contextmanager
def _started(here: LocalStack, settings: Settings, job: Job) -> Iterator[Broker]:
    """Redis and workers, started by now, and the connection to Redis."""
    here.start(settings, job.spec.task)
    here.fleet.name_log(job.id)
    with _advertised(settings, job, here.url), closing(broker_of(here.url, settings)) as broker:
        yield broker


def _advertised(settings: Settings, job: Job, url: str) -> AbstractContextManager[None]:
    """Other terminals find the Redis of our own; they know one that was named as we did."""
    return (
        nullcontext() if settings.broker_url else advertise_local_broker(state_folder(), job, url)
    )


def is_finished(store: Store) -> bool:
    data = store.read(output_layout.MANIFEST)
    try:
        return data is not None and parse_manifest(data, store.uri).state == "finished"
    except OutputConflict:  # damaged: it is written again at the end
        return False


def clear_stop_flags(store: Store) -> None:
    """Delete what stops a job: cancel, pause, and the manifest of a job that did not finish."""
    for name in (output_layout.CANCELLED, output_layout.PAUSED):
        store.delete(name)
    if not is_finished(store):
        store.delete(output_layout.MANIFEST)
