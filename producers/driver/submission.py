"""Stores a job for a fleet and announces it; nothing is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.coordination.redis_clock import redis_now
from headrace.settings import Settings
from headrace.tracing.job_trace import JobTrace
from producers.capacity.device_hint import guess_device, hint_of
from producers.capacity.speed_history import fleet_speed
from producers.driver.job_setup import (
    Note,
    StoredJob,
    local_workers,
    prepare_job,
    store_job,
    wait_for_input,
)
from producers.driver.patience import patiently
from producers.driver.session import Broker
from schemas.names import redis_keys
from schemas.records.chunk import InputFile

NO_CONTROLLER = "no controller is running at this broker, so nothing is published yet"


def workers_of(broker: Broker, queue: str) -> list[LiveWorker]:
    """The live workers of a fleet that serve the queue."""
    live = read_workers(broker.client, redis_now(broker.client))
    return [worker for worker in live if worker.queue == queue]


def store_for_fleet(
    settings: Settings,
    inputs: Sequence[str],
    output: str,
    broker: Broker,
    trace: JobTrace,
    note: Note,
    warn: Callable[[str], None],
    planned: Sequence[InputFile] | None = None,
) -> StoredJob:
    """The job in its output, planned for the workers of the fleet; not announced yet.

    Raises:
        UsageError: of the kinds that `prepare` and `create_job` name.
    """
    wait_for_input(settings, threading.Event().wait, note)
    with trace("plan"):
        seen = workers_of(broker, settings.queue)
        workers = len(seen) or local_workers(settings, guess_device("cpu"))
        hint = hint_of(seen)
        prepared = patiently(
            lambda: prepare_job(settings, inputs, output, workers, hint, planned=planned),
            settings, note,
        )  # fmt: skip
        for warning in prepared.warnings:
            warn(warning)
        speed = fleet_speed(broker.client, settings.queue, prepared.spec)
        stored = patiently(
            lambda: store_job(settings, prepared, trace, workers, speed, note), settings, note
        )
        for warning in stored.warnings:
            warn(warning)
    return stored


def announce(stored: StoredJob, broker: Broker) -> bool:
    """Announce the job to the controllers of a fleet; returns whether one is running."""
    announce_job(broker.client, stored.job.key, stored.job.output)
    return bool(broker.client.exists(redis_keys.CONTROLLER))
