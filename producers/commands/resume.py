"""`resume` and `retry`: a job that stands in its output goes on."""

from __future__ import annotations

import json
import time
from typing import Any

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.attempts import read_attempts, record_attempt
from headrace.process.numbers import plural
from headrace.settings import Settings
from headrace.storage.store import Store
from headrace.tasks.catalog import BUILT_IN, task_spec
from headrace.telemetry.provider import Telemetry
from headrace.tracing.job_trace import JobTrace
from producers.commands.run import run_job
from producers.commands.submit import submit_job
from producers.driver.drive import already_over, drive, drive_here, is_finished, wake
from producers.driver.job_setup import (
    index_reused,
)
from producers.driver.traced import job_trace
from producers.submission.unchanged import verify_inputs_unchanged
from producers.terminal.context import (
    broker_of,
    err,
    job_in,
    registry_of,
    settings_of,
)
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import Attempt


def resume_job(output: str, flags: dict[str, Any], *, wait: bool, as_json: bool) -> int:
    """Go on with the job of an output."""
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    verify_inputs_unchanged(job, store, settings)
    snapshot = already_over(job, store, as_json=as_json) if is_finished(store) else None
    if snapshot is not None:
        return snapshot
    wake(store)
    return _go_on(job, store, settings, wait=wait, as_json=as_json)


def retry_errors(
    output: str, new: str | None, flags: dict[str, Any], *, wait: bool, as_json: bool
) -> int:
    """A new job into another output: the ok rows of the first are copied, the others computed."""
    if new is None:
        raise ConfigError("say where to: headrace retry --errors OUTPUT --output NEW; parts stay")
    settings = settings_of(flags)
    job, store = job_in(output, settings)
    verify_inputs_unchanged(job, store, settings)
    again = {**flags, **flags_of(job), "reuse": store.uri}
    if settings.broker_url is None:
        return run_job(job.inputs.patterns, new, again, as_json=as_json)
    return submit_job(job.inputs.patterns, new, again, wait=wait, as_json=as_json)


def flags_of(job: Job) -> dict[str, Any]:
    """The options that give a job the same spec again."""
    spec, options = job.spec, job.options
    task = task_spec(spec.task)
    flags = {p.name for p in task.params} if spec.task in BUILT_IN else set()
    own = {k: v for k, v in spec.params.items() if k in flags}
    more = {k: v for k, v in spec.params.items() if k not in own}
    return {
        **own,
        "task": spec.task,
        "model": spec.model.uri if task.needs_model else None,
        "revision": spec.model.revision if task.needs_model else None,
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
    verify_inputs_unchanged(job, store, settings)
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
    wake(store)
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
        return drive_here(job, store, settings, trace, telemetry, time.time(), as_json=as_json)
    broker = broker_of(settings.broker_url.get_secret_value(), settings, warn=True)
    broker.client.hdel(redis_keys.job(job.key), "cancelled", "paused", "epoch")
    announce_job(broker.client, job.key, job.output)
    if wait or not broker.client.exists(redis_keys.CONTROLLER):
        return drive(job, store, broker, trace, telemetry, as_json=as_json, settings=settings)
    err.print(f"handed to the controller: headrace watch {job.id}", highlight=False)
    return ExitCode.OK


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
