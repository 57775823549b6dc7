"""`run`, `resume`, `retry`: a job to its end on this machine, or on a fleet that is there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from headrace.coordination.attempts import read_attempts, record_attempt
from headrace.process.numbers import plural
from headrace.queue.redis_queue import tell_of_job
from headrace.settings import Settings, cache_folder, state_folder
from headrace.storage.store import Store
from headrace.tasks.catalog import PARAMS, WITHOUT_MODEL
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device
from producers.capacity.speed_history import learn
from producers.commands.status import remember
from producers.commands.submit import already_over, drive, submit_job
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
    index_reused,
    local_shape,
    local_workers,
    prepare_job,
    speed_here,
    store_job,
    wait_for_input,
)
from producers.driver.traced import job_trace
from producers.local.broker_note import told_nearby
from producers.local.fleet import Here
from producers.submission.unchanged import check_unchanged
from producers.terminal.context import (
    Broker,
    broker_of,
    err,
    job_in,
    registry_of,
    settings_of,
)
from schemas.errors import ConfigError, ExitCode, OutputConflict
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import Attempt, parse_manifest


def run_job(
    inputs: Sequence[str],
    output: str,
    flags: dict[str, Any],
    *,
    as_json: bool,
    here: Here | None = None,
) -> int:
    """Plan, start Redis and workers, drive the job to its end; returns the exit code.

    `here` may have been started already.
    """
    settings = settings_of(flags)
    started = time.time()
    with job_trace(settings) as (trace, telemetry):
        wait_for_input(settings, threading.Event().wait)
        hint = guess_device(settings.device)
        workers = local_workers(settings, hint)
        with trace("plan"):
            prepared = prepare_job(settings, inputs, output, workers)
            speed = speed_here(prepared, hint, workers)
            job, store, is_new = store_job(settings, prepared, trace, workers, speed)
        if not is_new:
            over = already_over(job, store, as_json=as_json)
            if over is not None:
                return over
            _wake(store)
        if not as_json:
            err.print(
                f"job {job.id}: {plural(job.rows, 'row')} in {plural(job.chunks, 'chunk')}, "
                f"{plural(workers, 'worker')} → {job.output}"
                + ("" if is_new else " (resumed)"),
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        return _drive_here(
            job, store, settings, trace, telemetry, started, as_json=as_json, here=here
        )


def resume_job(output: str, flags: dict[str, Any], *, wait: bool, as_json: bool) -> int:
    """Go on with the job of an output."""
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    check_unchanged(job, store, settings)
    snapshot = already_over(job, store, as_json=as_json) if _is_finished(store) else None
    if snapshot is not None:
        return snapshot
    _wake(store)
    return _go_on(job, store, settings, wait=wait, as_json=as_json)


def retry_errors(
    output: str, new: str | None, flags: dict[str, Any], *, wait: bool, as_json: bool
) -> int:
    """A new job into another output: the ok rows of the first are copied, the others computed."""
    if new is None:
        raise ConfigError("say where to: headrace retry --errors OUTPUT --output NEW; parts stay")
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    check_unchanged(job, store, settings)
    again = {**flags, **flags_of(job), "reuse": store.uri}
    if settings.broker_url is None:
        return run_job(job.inputs.patterns, new, again, as_json=as_json)
    return submit_job(job.inputs.patterns, new, again, wait=wait, as_json=as_json)


def flags_of(job: Job) -> dict[str, Any]:
    """The options that give a job the same spec again."""
    spec, options = job.spec, job.options
    own = {k: v for k, v in spec.params.items() if k in PARAMS.get(spec.task, ())}
    more = {k: v for k, v in spec.params.items() if k not in own}
    return {
        **own,
        "task": spec.task,
        "model": None if spec.task in WITHOUT_MODEL else spec.model.uri,
        "revision": None if spec.task in WITHOUT_MODEL else spec.model.revision,
        "text_column": spec.text_column,
        "text_pair_column": spec.text_pair_column,
        "id_column": spec.id_column,
        "columns": ",".join(spec.columns) or None,
        "max_length": spec.max_length,
        "dtype": spec.dtype,
        "precision_floor": job.precision.floor if job.precision else None,
        "accept_precision": (job.precision is not None and job.precision.accepted) or None,
        "limit": spec.limit,
        "task_params": json.dumps(more) if more else None,
        "queue": options.queue,
        "trust_remote_code": options.trust_remote_code,
        "allow_pickle": options.allow_pickle,
        "error_threshold": options.error_threshold,
    }


def retry_parked(
    output: str, flags: dict[str, Any], *, parked: bool, wait: bool, as_json: bool
) -> int:
    """Publish the parked chunks of an output again."""
    if not parked:
        raise ConfigError("say what to retry: --parked, or --errors with --output NEW")
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    check_unchanged(job, store, settings)
    count = 0
    for info in list(store.list(output_layout.PARKED)):
        chunk = output_layout.chunk_of_record(info.name)
        if chunk is None:
            continue
        if store.head(output_layout.part(chunk)) is None:
            _forgive(store, chunk)
            count += 1
        store.delete(info.name)
    err.print(f"tried again: {plural(count, 'parked chunk')}", highlight=False)
    if count == 0:
        return ExitCode.OK
    _wake(store)
    return _go_on(job, store, settings, wait=wait, as_json=as_json)


def _go_on(job: Job, store: Store, settings: Settings, *, wait: bool, as_json: bool) -> int:
    """On the fleet of a named broker, else on this machine."""
    index_reused(job, store, settings)
    registry_of(settings).add(job)
    with job_trace(settings) as (trace, telemetry):
        trace.adopt(job, store)
        return _on_fleet_or_here(job, store, settings, trace, telemetry, wait=wait, as_json=as_json)


def _on_fleet_or_here(
    job: Job,
    store: Store,
    settings: Settings,
    trace: JobTrace,
    telemetry: Telemetry,
    *,
    wait: bool,
    as_json: bool,
) -> int:
    if settings.broker_url is None:
        return _drive_here(job, store, settings, trace, telemetry, time.time(), as_json=as_json)
    broker = broker_of(settings.broker_url.get_secret_value(), settings, warn=True)
    broker.client.hdel(redis_keys.job(job.key), "cancelled", "paused", "epoch")
    tell_of_job(broker.client, job.key, job.output)
    if wait or not broker.client.exists(redis_keys.CONTROLLER):
        return drive(job, store, broker, trace, telemetry, as_json=as_json, settings=settings)
    err.print(f"handed to the controller: headrace watch {job.id}", highlight=False)
    return ExitCode.OK


def _drive_here(
    job: Job,
    store: Store,
    settings: Settings,
    trace: JobTrace,
    telemetry: Telemetry,
    started: float,
    *,
    as_json: bool,
    here: Here | None = None,
) -> int:
    """Workers of our own for as long as the job takes."""
    with here or Here() as here, _started(here, settings, job) as broker:
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
        learn(cache_folder(), shape, workers, job, controller.ended[job.key])
    write_report_if_able(store, settings)
    return conclude(now, store, as_json=as_json, seconds=time.time() - started)


@contextmanager
def _started(here: Here, settings: Settings, job: Job) -> Iterator[Broker]:
    """Redis and workers, started by now, and the connection to Redis."""
    here.start(settings, job.spec.task)
    here.fleet.name_log(job.id)
    with _told_nearby(settings, job, here.url):
        yield broker_of(here.url, settings)


def _told_nearby(settings: Settings, job: Job, url: str) -> AbstractContextManager[None]:
    """Other terminals find the Redis of our own; one that was named they have to be told, as we were."""
    return nullcontext() if settings.broker_url else told_nearby(state_folder(), job, url)


def _interrupted(job: Job, *, as_json: bool) -> int:
    """The workers have drained by now; say how to go on."""
    err.print(
        f"\ninterrupted: what is committed stays. Go on with:\n  headrace resume {job.output}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return ExitCode.INTERRUPTED


def _is_finished(store: Store) -> bool:
    data = store.read(output_layout.MANIFEST)
    try:
        return data is not None and parse_manifest(data, store.uri).state == "finished"
    except OutputConflict:  # damaged: written anew at the end
        return False


def _wake(store: Store) -> None:
    """Take away what holds a job back: cancel, pause, and the record of an end that was none."""
    for name in (output_layout.CANCELLED, output_layout.PAUSED):
        store.delete(name)
    if not _is_finished(store):
        store.delete(output_layout.MANIFEST)


def _forgive(store: Store, chunk: int) -> None:
    """A record that lets a parked chunk be tried again, and keeps what is known of its rows."""
    number = len(read_attempts(store, chunk)) + 1
    record_attempt(
        store,
        Attempt(
            chunk=chunk, number=number, attempt=f"retry-{number}", cause="retry", rows=(),
            message="retried by hand", at_s=time.time(), seen_by="headrace retry",
        ),
    )  # fmt: skip
