"""Continues a stored job: what was cancelled or paused, and chunks that were parked."""

from __future__ import annotations

import time

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.attempts import read_attempts, record_attempt
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.driver.job_end import clear_stop_flags
from producers.driver.job_setup import index_reused, register
from producers.driver.session import Broker
from producers.submission.unchanged import verify_answers_unchanged, verify_inputs_unchanged
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import Attempt


def release_parked(job: Job, store: Store, settings: Settings) -> int:
    """Let the parked chunks of a job be tried again; returns how many. The job is not sent yet.

    Raises:
        InputChanged, ModelChanged: input, model or answers are not those that were planned.
    """
    verify_answers_unchanged(job, verify_inputs_unchanged(job, store, settings))
    count = 0
    for info in list(store.list(output_layout.PARKED)):
        chunk = output_layout.chunk_of_record(info.name)
        if chunk is None:
            continue
        if store.head(output_layout.part(chunk)) is None:
            _allow_retry(store, chunk)
            count += 1
        store.delete(info.name)
    if count:
        clear_stop_flags(store)
    return count


def prepare_again(job: Job, store: Store, settings: Settings) -> None:
    """Everything but sending: the index of reused rows, and the entry in the registry."""
    index_reused(job, store, settings)
    register(job, store, settings)


def send_again(job: Job, broker: Broker) -> bool:
    """Hand the job to the controllers of a fleet; returns whether one is running."""
    broker.client.hdel(redis_keys.job(job.key), "cancelled", "paused", "epoch")
    announce_job(broker.client, job.key, job.output)
    return bool(broker.client.exists(redis_keys.CONTROLLER))


def _allow_retry(store: Store, chunk: int) -> None:
    """Write a record that allows a parked chunk to be retried and keeps what is known of its rows."""
    number = len(read_attempts(store, chunk)) + 1
    record_attempt(
        store,
        Attempt(
            chunk=chunk, number=number, attempt=f"retry-{number}", cause="retry", rows=(),
            message="retried by hand", at_s=time.time(), seen_by="headrace retry",
        ),
    )  # fmt: skip
