"""Opens what a command works with: the job of an output, the registry, a reachable broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.output.job_record import require_job
from headrace.queue.open import check_queue
from headrace.queue.redis_connection import connect, ping_or_raise, server_warnings
from headrace.redis_client import RedisClient
from headrace.settings import Settings, state_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from producers.local.broker_note import find_local_broker
from producers.records.job_registry import open_registry
from schemas.errors import BrokerError, ConfigError, HeadraceError
from schemas.records.job import Job
from schemas.records.manifest import JobState


@dataclass(frozen=True, slots=True)
class Broker:
    """A Redis that answers: for reading (`client`) and for sending (`sender`)."""

    url: str
    client: RedisClient
    sender: Any

    def warnings(self) -> tuple[str, ...]:
        """Settings of this server that may lose messages of a queue."""
        return tuple(server_warnings(self.client))

    def close(self) -> None:
        """Close the connections to Redis; a later use opens them again."""
        self.client.close()


def broker_of(url: str, settings: Settings) -> Broker:
    """The Redis at this URL, after it has answered.

    Raises:
        BrokerError: it does not answer, or refuses the password.
    """
    from headrace.queue.celery_config import make_sender

    client = connect(url, name="headrace")
    ping_or_raise(client, url)
    queue_url = settings.queue_url.get_secret_value() if settings.queue_url else None
    if queue_url is not None:
        check_queue(queue_url)
    return Broker(url, client, make_sender(url, queue_url))


def needed_broker(settings: Settings) -> Broker:
    """The broker of the settings.

    Raises:
        ConfigError: no broker was named. BrokerError: it does not answer.
    """
    if settings.broker_url is None:
        raise ConfigError(
            "this needs --broker URL or HEADRACE_BROKER_URL, e.g. redis://localhost:6379/0"
        )
    return broker_of(settings.broker_url.get_secret_value(), settings)


def broker_if_any(settings: Settings, job: Job) -> Broker | None:
    """The broker of the settings or of this job's `headrace run` here; None if none answers."""
    url = (
        find_local_broker(state_folder(), job)
        if settings.broker_url is None
        else settings.broker_url.get_secret_value()
    )
    try:
        return None if url is None else broker_of(url, settings)
    except BrokerError:
        return None


def job_in(output: str, settings: Settings) -> tuple[Job, Store]:
    """The job of an output.

    Raises:
        JobNotFound: the output holds no job.
    """
    store = open_store(normalise_uri(output), settings)
    return require_job(store), store


def find_job(where: str, settings: Settings) -> tuple[Job, Store]:
    """A job by its id, the first digits of its id, or its output.

    Raises:
        JobNotFound: neither the registry nor an output has it.
    """
    known = open_registry(settings).find(where)
    return job_in(known.output if known is not None else where, settings)


def update_registry(settings: Settings, job: Job, state: JobState) -> str | None:
    """Write a job's state to the registry; logs a warning if that fails."""
    try:
        open_registry(settings).update(job.output, state)
    except HeadraceError as error:
        return f"the registry was not updated: {error}"
    return None
