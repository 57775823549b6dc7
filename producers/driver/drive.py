"""Drives a job that stands in its output: here with workers of its own, or on a fleet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from headrace.settings import Settings, cache_folder, state_folder
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device
from producers.capacity.speed_history import record_speed
from producers.control.controller import Controller
from producers.driver.follow import (
    Interrupted,
    conclude,
    follow,
    load_report,
    tell_if_ended_elsewhere,
    write_report_if_able,
)
from producers.driver.job_setup import (
    local_shape,
    local_workers,
)
from producers.local.broker_note import advertise_local_broker
from producers.local.fleet import LocalStack
from producers.records.snapshot import take_snapshot
from producers.terminal.context import (
    Broker,
    broker_of,
    err,
    remember,
)
from schemas.errors import ExitCode, OutputConflict
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest


def drive(
    job: Job,
    store: Store,
    broker: Broker,
    trace: JobTrace,
    emitter: Telemetry,
    *,
    as_json: bool,
    settings: Settings,
) -> int:
    """Reconcile and follow the job in this process to its end."""
    started = time.time()
    controller = Controller(
        broker.client,
        broker.sender,
        on_finish=settings.on_finish,
        emitter=emitter,
        keep_traces=settings.traces,
    )
    try:
        with trace("follow"):
            now = follow(job, store, broker, controller, quiet=as_json)
    except Interrupted:
        err.print(
            f"no longer following; with a controller running, the job continues: headrace watch {job.id}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return ExitCode.INTERRUPTED
    finally:
        controller.close()
    tell_if_ended_elsewhere(job, store, controller)
    remember(settings, job, now.state)
    write_report_if_able(store, settings)
    return conclude(now, store, as_json=as_json, seconds=time.time() - started)


def already_over(job: Job, store: Store, *, as_json: bool) -> int | None:
    """The exit code of a job that has ended before; None when there is something left to do."""
    now = take_snapshot(store, job, None)
    if now.finished_s is None:
        return None
    err.print("this job has ended already; nothing was computed", highlight=False)
    return conclude(now, store, as_json=as_json, seconds=now.finished_s - now.submitted_s)


def drive_here(
    job: Job,
    store: Store,
    settings: Settings,
    trace: JobTrace,
    telemetry: Telemetry,
    started: float,
    *,
    as_json: bool,
    here: LocalStack | None = None,
) -> int:
    """Workers of our own for as long as the job takes."""
    with here or LocalStack() as here, _started(here, settings, job) as broker:
        controller = Controller(
            broker.client,
            broker.sender,
            least_workers=settings.workers or 1,
            on_finish=settings.on_finish,
            emitter=telemetry,
            keep_traces=settings.traces,
        )
        try:
            with here.draining(load_report) as fleet, trace("follow"):
                now = follow(job, store, broker, controller, fleet.check, quiet=as_json)
        except Interrupted:
            return _interrupted(job, as_json=as_json)
        finally:
            controller.close()
    tell_if_ended_elsewhere(job, store, controller)
    remember(settings, job, now.state)
    if job.key in controller.ended:
        hint = guess_device(settings.device)
        workers = local_workers(settings, hint)
        shape = local_shape(hint, workers)
        record_speed(cache_folder(), shape, workers, job, controller.ended[job.key])
    write_report_if_able(store, settings)
    return conclude(now, store, as_json=as_json, seconds=time.time() - started)


@contextmanager
def _started(here: LocalStack, settings: Settings, job: Job) -> Iterator[Broker]:
    """Redis and workers, started by now, and the connection to Redis."""
    here.start(settings, job.spec.task)
    here.fleet.name_log(job.id)
    with _told_nearby(settings, job, here.url):
        yield broker_of(here.url, settings)


def _told_nearby(settings: Settings, job: Job, url: str) -> AbstractContextManager[None]:
    """Other terminals find the Redis of our own; one that was named they have to be told, as we were."""
    return (
        nullcontext() if settings.broker_url else advertise_local_broker(state_folder(), job, url)
    )


def _interrupted(job: Job, *, as_json: bool) -> int:
    """The workers have drained by now; say how to go on."""
    err.print(
        f"\ninterrupted: committed parts stay. Continue with:\n  headrace resume {job.output}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return ExitCode.INTERRUPTED


def is_finished(store: Store) -> bool:
    data = store.read(output_layout.MANIFEST)
    try:
        return data is not None and parse_manifest(data, store.uri).state == "finished"
    except OutputConflict:  # damaged: written anew at the end
        return False


def wake(store: Store) -> None:
    """Take away what holds a job back: cancel, pause, and the record of an end that was none."""
    for name in (output_layout.CANCELLED, output_layout.PAUSED):
        store.delete(name)
    if not is_finished(store):
        store.delete(output_layout.MANIFEST)
