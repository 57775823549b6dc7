"""What the commands share: settings, the output's job, the registry, a broker, a console."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from headrace.process.logs import configure_logging
from headrace.queue.redis_connection import (
    connect,
    ping_or_raise,
    server_warnings,
)
from headrace.settings import (
    Settings,
    load_settings,
    state_folder,
)
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.storage.uri import normalise_uri
from producers.local.broker_note import find_local_broker
from producers.records.job_registry import Registry, open_registry
from schemas.errors import BrokerError, ConfigError, HeadraceError, JobNotFound
from schemas.names import output_layout
from schemas.records.job import Job, parse_job
from schemas.records.manifest import JobState

err = Console(stderr=True)
out = Console()


@dataclass(frozen=True, slots=True)
class Broker:
    """A Redis that answers: for reading (`client`) and for sending (`sender`)."""

    url: str
    client: Any
    sender: Any


def settings_of(flags: dict[str, Any], *, is_service: bool = False) -> Settings:
    """The settings in force, and logging as they say; a command for people logs warnings only."""
    settings = load_settings(**flags)
    quiet = (
        settings
        if is_service or settings.log_level != "info"
        else settings.model_copy(update={"log_level": "warning"})
    )
    configure_logging(quiet, sys.stderr, err if err.is_terminal else None)
    return settings


def broker_of(url: str, settings: Settings, *, warn: bool = False) -> Broker:
    """Connect to this Redis and be sure. Raises BrokerError that says what to do."""
    from headrace.queue.celery_config import make_sender

    client = connect(url, name="headrace")
    ping_or_raise(client, url)
    if warn:
        for warning in server_warnings(client):
            err.print(f"[yellow]warning:[/] {warning}", highlight=False)
    queue_url = settings.queue_url.get_secret_value() if settings.queue_url else None
    return Broker(url, client, make_sender(url, queue_url))


def broker_if_any(settings: Settings, job: Job) -> Broker | None:
    """The broker of the settings, or of a `headrace run` of this job here; None: none answers."""
    url = (
        find_local_broker(state_folder(), job)
        if settings.broker_url is None
        else settings.broker_url.get_secret_value()
    )
    try:
        return None if url is None else broker_of(url, settings)
    except BrokerError:
        return None


def needed_broker(settings: Settings, *, warn: bool = True) -> Broker:
    """The broker of the settings; `warn` says what is amiss with it, for whoever sends to it.

    Raises:
        ConfigError: none was named. BrokerError: it does not answer.
    """
    if settings.broker_url is None:
        raise ConfigError(
            "this needs --broker URL or HEADRACE_BROKER_URL, e.g. redis://localhost:6379/0"
        )
    return broker_of(settings.broker_url.get_secret_value(), settings, warn=warn)


def registry_of(settings: Settings) -> Registry:
    return open_registry(settings)


def job_in(output: str, settings: Settings) -> tuple[Job, Store]:
    """The job of an output.

    Raises:
        JobNotFound: the output holds none.
    """
    store = open_store(normalise_uri(output), settings)
    data = store.read(output_layout.JOB)
    if data is None:
        raise JobNotFound(f"{store.uri} holds no job of headrace")
    return parse_job(data, f"{store.uri}/{output_layout.JOB}"), store


def find_job(where: str, settings: Settings) -> tuple[Job, Store]:
    """A job by its id, the first digits of its id, or its output.

    Raises:
        JobNotFound: neither the registry nor that place knows one.
    """
    known = registry_of(settings).find(where)
    return job_in(known.output if known is not None else where, settings)


def remember(settings: Settings, job: Job, state: JobState) -> None:
    """Note a job's state in the registry; a registry that is away costs a note, nothing else."""
    try:
        registry_of(settings).update(job.output, state)
    except HeadraceError as error:
        err.print(f"[yellow]warning:[/] the registry was not updated: {error}", highlight=False)
