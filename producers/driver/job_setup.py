"""Makes a stored job from settings; for the commands, the Python API and the gateway."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil

from headrace.formats.opener import InputOpener
from headrace.process.logs import get_logger
from headrace.settings import Settings, cache_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri, split_uri
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import DeviceHint, guess_device
from producers.capacity.speed_history import of_this_machine, shape_of
from producers.driver.patience import patiently
from producers.driver.precision_gate import check_before_job
from producers.records.follower import claim
from producers.records.job_registry import open_registry
from producers.submission.create import create_job
from producers.submission.estimate import Estimate, estimate
from producers.submission.prepare import (
    PreparedJob,
    masked_command,
    prepare,
)
from producers.submission.reuse import store_index
from schemas.errors import ConfigError, HeadraceError, InputNotFound
from schemas.records.chunk import InputFile
from schemas.records.job import Job

log = get_logger(__name__)

Note = Callable[[str], None]
"""Called with one line about what happens; a command prints it."""

_POLL_S = 15.0  # chosen: an upstream job's marker is minutes late, not milliseconds


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job that is stored in its output."""

    job: Job
    store: Store
    is_new: bool
    """True if this call made it; False if it existed already."""
    warnings: tuple[str, ...] = ()


def require_device(settings: Settings, hint: DeviceHint) -> None:
    """Nothing, where this machine has the device that `--device` names.

    Raises:
        ConfigError: it has no such GPU.
    """
    if settings.device.startswith("cuda") and not hint.is_here:
        raise ConfigError(
            f"--device {settings.device}: this machine has no GPU that nvidia-smi shows; use --device "
            "cpu, or submit to the queue of a fleet that has them"
        )


def local_workers(settings: Settings, hint: DeviceHint) -> int:
    """How many workers this machine will have: as requested, else one per GPU, else as many as there
    are cores for the threads of each."""
    by_cores = max(1, _cores() // (settings.threads or 1))
    return settings.workers or (hint.count if hint.kind == "cuda" else by_cores)


def _cores() -> int:
    if hasattr(psutil.Process, "cpu_affinity"):
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def prepare_job(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    workers: int,
    hint: DeviceHint | None = None,
    planned: Sequence[InputFile] | None = None,
) -> PreparedJob:
    """The job, checked, with its warnings. Without a hint it is for this machine.

    `planned` are the files of an earlier plan, which are taken instead of looking for `inputs`.
    """
    hint = hint or guess_device(settings.device, workers=workers)
    return prepare(
        settings,
        inputs,
        output,
        device_hint=hint,
        workers_hint=workers,
        planned=planned,
        extra_params=settings.task_params,
    )


def estimate_job(
    settings: Settings, prepared: PreparedJob, workers: int, tokens_per_s: float | None
) -> Estimate:
    """The estimate of the job; `tokens_per_s` is for one worker, if an earlier job measured it.

    Raises:
        InputUnreadable, StorageError: the sample of the text cannot be read.
    """
    return estimate(
        prepared,
        InputOpener(partial(open_store, settings=settings)),
        workers=workers,
        price_per_hour=settings.price_per_hour,
        measured_tokens_per_s=tokens_per_s,
    )


def speed_here(prepared: PreparedJob, hint: DeviceHint, workers: int) -> float | None:
    """Tokens per second of one worker of this machine, if an earlier job measured them."""
    return of_this_machine(cache_folder(), local_shape(hint, workers), prepared.spec)


def local_shape(hint: DeviceHint, workers: int) -> str:
    return shape_of(hint.name if hint.kind == "cuda" else "cpu", _cores(), workers)


def store_job(
    settings: Settings,
    prepared: PreparedJob,
    trace: JobTrace,
    workers: int,
    tokens_per_s: float | None,
    note: Note,
) -> StoredJob:
    """Create or adopt the job, and add it to the registry.

    Raises:
        PrecisionRefused: see `check_before_job`.
    """
    warnings: tuple[str, ...] = ()
    precision, doubt = check_before_job(settings, prepared, note)
    store = open_store(prepared.output, settings)
    try:
        told = estimate_job(settings, prepared, workers, tokens_per_s)
        warnings = told.warnings[len(prepared.warnings) :]
        predicted = told.predicted(settings.price_per_hour)
    except HeadraceError:
        # the sample cannot be read: skip the estimate, the job will report the error
        predicted = None
    job, is_new = create_job(
        store,
        prepared,
        now_s=time.time(),
        command=masked_command(sys.argv),
        predicted=predicted,
        precision=precision,
        warnings=warnings if doubt is None else (*warnings, doubt),
        trace_id=trace.trace_id,
        span_id=trace.span_id,
    )
    trace.adopt(job, store)
    log.info(
        "job.submitted" if is_new else "job.adopted",
        job=job.id, rows=job.rows, chunks=job.chunks, queue=job.options.queue,
    )  # fmt: skip
    index_reused(job, store, settings)
    register(job, store, settings)
    return StoredJob(job, store, is_new, warnings + (() if doubt is None else (doubt,)))


def set_up_here(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    trace: JobTrace,
    note: Note,
    warn: Callable[[str], None],
    planned: Sequence[InputFile] | None = None,
) -> tuple[StoredJob, int]:
    """The job in its output, planned for workers of this machine, and how many those are.

    Raises:
        UsageError: of the kinds that `prepare` and `create_job` name; no such GPU; no `--wait-for`.
    """
    wait_for_input(settings, threading.Event().wait, note)
    hint = guess_device(settings.device)
    require_device(settings, hint)
    workers = local_workers(settings, hint)
    with trace("plan"):
        prepared = patiently(
            lambda: prepare_job(settings, inputs, output, workers, planned=planned), settings, note
        )
        for warning in prepared.warnings:
            warn(warning)
        speed = speed_here(prepared, hint, workers)
        stored = patiently(
            lambda: store_job(settings, prepared, trace, workers, speed, note), settings, note
        )
        for warning in stored.warnings:
            warn(warning)
    return stored, workers


def register(job: Job, store: Store, settings: Settings) -> None:
    """Add the job to the registry; a job for own workers is first noted as followed here."""
    if settings.broker_url is None:
        claim(store)
    open_registry(settings).add(job)


def index_reused(job: Job, store: Store, settings: Settings) -> None:
    """Build the index of what the job reuses, before any worker can start on it."""
    if job.options.reuse_output is not None:
        store_index(store, open_store(job.options.reuse_output, settings))


def wait_for_input(settings: Settings, stopped: Callable[[float], bool], note: Note) -> None:
    """Wait until the object of `--wait-for` exists; `stopped` waits and returns whether to give up.

    Raises:
        InputNotFound: it did not appear in time.
    """
    if settings.wait_for is None:
        return
    uri = normalise_uri(settings.wait_for)
    root, name = split_uri(uri)
    store = open_store(root, settings)
    deadline = time.monotonic() + settings.wait_for_timeout_s
    told = False
    while store.head(name) is None:
        if time.monotonic() >= deadline:
            raise InputNotFound(
                f"{uri} did not appear within {settings.wait_for_timeout_s:,.0f} s (--wait-for)"
            )
        if not told:
            note(f"waiting for {uri}")
            told = True
        if stopped(min(_POLL_S, max(0.1, deadline - time.monotonic()))):
            raise KeyboardInterrupt
