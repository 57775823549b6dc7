"""Drives a stored job to its end: with workers of its own on this machine, or on a fleet."""

from __future__ import annotations

import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import redis

from headrace.coordination.redis_clock import redis_now
from headrace.coordination.store_trouble import parse_trouble
from headrace.process.numbers import span
from headrace.settings import Settings, cache_folder, state_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device
from producers.capacity.speed_history import record_speed
from producers.control.controller import Controller
from producers.control.store_patience import StorePatience
from producers.driver.job_end import (
    JobEnd,
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
from producers.records.snapshot import Snapshot, take_snapshot
from schemas.errors import DiskFull, HeadraceError, StorageError
from schemas.names import redis_keys
from schemas.records.job import Job

TICK_S = 0.25  # chosen: the progress bar moves smoothly, at no visible cost
FILES_S = 5.0  # chosen: every receipt of the job is read each time
AWAY_S = 1.0  # chosen: each call of the store has made its own attempts before
SOON_S = 0.01  # chosen: used once or twice, after our own controller has just ended a job

OnProgress = Callable[[Snapshot], None]
"""Called with the job's current state a few times per second until it is over."""


class Interrupted(Exception):
    """The caller's stop event was set while a job was followed."""


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
    require_worker_packages(job.spec.task, engine=job.spec.engine, vllm_python=settings.vllm_python)
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


def follow(
    job: Job,
    store: Store,
    broker: Broker | None,
    controller: Controller | None,
    on_progress: OnProgress,
    stop: threading.Event,
    check: Callable[[], None] = lambda: None,
    *,
    give_up_after_s: float = math.inf,
) -> Snapshot:
    """The job once it is over; with a controller, it is reconciled here until then.

    Without a broker the files of the output are read every few seconds. `check` is called in each
    round and raises if continuing is useless.

    A store that is away, refuses or is full is waited for, here and by the workers.

    Raises:
        Interrupted: `stop` was set.
        StorageError, DiskFull: the store failed for `give_up_after_s`, and no chunk was committed.
    """
    patience, rows, is_added = StorePatience(give_up_after_s), 0, False
    while True:
        failure: HeadraceError | None = None
        try:
            if controller is not None and not is_added:
                controller.add(job, store)
                is_added = True
            if controller is not None:
                controller.tick()
            check()
            ended = controller is not None and job.key in controller.ended
            if stop.wait(pause_s(has_broker=broker is not None, ended=ended)):
                raise Interrupted
            now = take_snapshot(store, job, broker.client if broker else None)
            if is_over(now, job, controller):
                return now
            rows = now.rows_done + now.rows_live
            on_progress(now)
        except HeadraceError as error:
            if not error.may_pass:
                raise
            failure = error
            if stop.wait(AWAY_S):
                raise Interrupted from error
        failure = failure or _store_failure(job, broker, controller)
        if patience.is_over(fails=failure is not None, rows=rows, now=time.monotonic()):
            assert failure is not None
            raise _given_up(failure, job, give_up_after_s) from failure


def _store_failure(
    job: Job, broker: Broker | None, controller: Controller | None
) -> HeadraceError | None:
    """What the controller here, or a worker, has lately found wrong with a store."""
    if controller is not None and job.key in controller.store_errors:
        return controller.store_errors[job.key]
    if broker is None:
        return None
    try:
        raw = broker.client.hget(redis_keys.job(job.key), "trouble")
        trouble = parse_trouble(raw, redis_now(broker.client)) if raw else None
    except redis.RedisError:
        return None
    return None if trouble is None else trouble.error


def _given_up(failure: HeadraceError, job: Job, limit_s: float) -> StorageError:
    kind = DiskFull if isinstance(failure, DiskFull) else StorageError
    return kind(
        f"waited {span(limit_s)} for the store (--give-up-after): {failure}; committed parts stay, "
        f"continue with: headrace resume {shlex.quote(job.output)}"
    )


def pause_s(*, has_broker: bool, ended: bool) -> float:
    """Seconds to wait before the job is read again."""
    if ended:
        return SOON_S
    return TICK_S if has_broker else FILES_S


def is_over(now: Snapshot, job: Job, controller: Controller | None) -> bool:
    """True if the manifest says that it is over and our own controller has called its hooks."""
    ours = controller is None or job.key not in controller.tracked
    return now.is_over and now.finished_s is not None and ours
