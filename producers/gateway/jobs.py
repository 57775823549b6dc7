"""Jobs of a caller: submit, find, stop, continue. Used by the API and the console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from headrace.models.registry import open_model_registry, parse_address
from headrace.process.logs import get_logger
from headrace.settings import Settings
from headrace.storage.open import check_allowed, open_store
from headrace.storage.store import Store
from producers.driver.job_end import clear_stop_flags, is_finished
from producers.driver.restart import prepare_again, release_parked, send_again
from producers.driver.session import job_in
from producers.driver.stop import Stop, stop_job
from producers.driver.submission import announce, store_for_fleet
from producers.driver.traced import job_trace
from producers.gateway.access.callers import Caller, is_address
from producers.gateway.problems import Problem, not_found
from producers.gateway.state import Gateway
from producers.records.job_registry import Entry
from producers.records.lost_parts import reopen_if_incomplete
from producers.records.snapshot import Snapshot, take_snapshot
from producers.submission.dates import fill_dates, logical_date
from producers.submission.unchanged import verify_inputs_unchanged
from schemas.errors import ConfigError, HeadraceError
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.model_version import SCHEME

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A job of the caller, and the settings to work with it."""

    job: Job
    store: Store
    settings: Settings


def job_settings(
    gateway: Gateway, caller: Caller, inputs: Sequence[str], output: str, options: Mapping[str, Any]
) -> Settings:
    """The settings of a submission, within the limits of gateway and key.

    Raises:
        ConfigError: an option has no meaning. UriNotAllowed: a place is outside the prefixes.
        ModelRegistryError: there is no such model.
    """
    given = dict(options)
    model = given.get("model")
    named = model in gateway.models or str(model).startswith(SCHEME)
    if named:
        given["model"] = gateway.address_of(str(model))
    try:
        base = gateway.settings.model_dump(exclude_none=True)
        settings = type(gateway.settings)(**{**base, **given})
    except ValueError as error:
        raise ConfigError(f"an option of the job: {error}") from error
    places = [*inputs, output, *filter(None, [settings.reuse])]
    if settings.model is not None and not named and is_address(settings.model):
        places.append(settings.model)  # refused before its folder is looked for
    settings = caller.settings_for(settings, *places)
    if not named or not settings.allowed_prefixes:
        return settings
    prefixes = (*settings.allowed_prefixes, _place_of(settings))
    return settings.model_copy(update={"allowed_prefixes": prefixes})


def _place_of(settings: Settings) -> str:
    """The address of a model that the operator has named; any key may use it."""
    assert settings.model is not None
    if settings.model.startswith(SCHEME):
        return open_model_registry(settings).find(parse_address(settings.model)).model.uri
    return settings.model


def submit(
    gateway: Gateway, caller: Caller, inputs: Sequence[str], output: str, options: Mapping[str, Any]
) -> tuple[Job, bool, list[str]]:
    """The job, whether it is new, and warnings. The same submission again is the same job.

    Raises:
        HeadraceError: as `headrace submit` does.
    """
    settings = job_settings(gateway, caller, inputs, output, options)
    day = logical_date(settings.date, date.today())
    inputs, output = [fill_dates(path, day) for path in inputs], fill_dates(output, day)
    broker, warnings = gateway.broker(), list[str]()
    with job_trace(settings) as (trace, _):
        stored = store_for_fleet(settings, inputs, output, broker, trace, _note, warnings.append)
        gateway.root.own(caller.owner, "jobs", stored.job.key, stored.job.output)
        is_over = stored.store.head(output_layout.MANIFEST) is not None
        if not is_over:
            announce(stored, broker)
    return stored.job, stored.is_new, warnings


def outputs_of(gateway: Gateway, caller: Caller) -> Iterator[str]:
    """Outputs of the jobs that the caller may see."""
    root = gateway.root
    for key in root.owned(caller.owner, "jobs"):
        output = root.content_of(caller.owner, "jobs", key)
        if output is not None:
            yield output


def entries(gateway: Gateway, caller: Caller) -> list[Entry]:
    """What the registry knows of the caller's jobs, the latest first."""
    known = gateway.registry.list()
    if caller.sees_all:
        return known
    own = set(outputs_of(gateway, caller))
    return [entry for entry in known if entry.output in own]


def find(gateway: Gateway, caller: Caller, key: str) -> Found:
    """The job of this key (`id-digits`) that the caller may see.

    Raises:
        Problem: 404, it is not there or another's.
    """
    output = _output_of(gateway, caller, key)
    settings = gateway.settings
    if not caller.sees_all:
        settings = caller.settings_for(settings, output)
    try:
        job, store = job_in(output, settings)
    except HeadraceError as error:
        if error.may_pass:
            raise
        raise not_found("job", key) from error
    if job.key != key:
        raise not_found("job", key)
    return Found(job, store, settings)


def _output_of(gateway: Gateway, caller: Caller, key: str) -> str:
    if not key.replace("-", "").isalnum() or not key.isascii() or len(key) > 64:
        raise not_found("job", key)
    output = gateway.root.content_of(caller.owner, "jobs", key)
    if output is None and caller.sees_all:
        known = gateway.registry.list()
        output = next((e.output for e in known if key_of(e) == key), None)
    if output is None:
        raise not_found("job", key)
    return output


def key_of(entry: Entry) -> str:
    """The key of a job in the registry: its id and digits of its output."""
    from schemas.records.run_key import job_key

    return job_key(entry.id, entry.output)


def snapshot(gateway: Gateway, found: Found) -> Snapshot:
    """The job's state now."""
    with gateway.broker_if_there() as broker:
        return take_snapshot(found.store, found.job, broker.client if broker else None)


def stop(found: Found, state: Stop) -> None:
    """Cancel or pause the job."""
    stop_job(found.job, found.store, found.settings, state)


def resume(gateway: Gateway, found: Found) -> None:
    """Continue a job that was cancelled, paused or failed.

    Raises:
        InputChanged: its input is not what was planned.
    """
    verify_inputs_unchanged(found.job, found.store, found.settings)
    reopen_if_incomplete(found.store)
    if is_finished(found.store):
        return
    clear_stop_flags(found.store)
    _send(gateway, found)


def retry(gateway: Gateway, found: Found) -> int:
    """Retry parked chunks; returns how many there were."""
    count = release_parked(found.job, found.store, found.settings)
    if count:
        _send(gateway, found)
    return count


def _send(gateway: Gateway, found: Found) -> None:
    broker = gateway.broker()
    prepare_again(found.job, found.store, found.settings)
    send_again(found.job, broker)


def report(found: Found) -> bytes:
    """The job's report, as it was written at its end.

    Raises:
        Problem: 404, there is none.
    """
    data = found.store.read(output_layout.REPORT)
    if data is None:
        raise Problem(404, "this job has no report yet", code="not_found")
    return data


def opened(gateway: Gateway, caller: Caller, output: str) -> Store:
    """The store of an output that a caller named.

    Raises:
        UriNotAllowed: the caller may not read there.
    """
    settings = caller.settings_for(gateway.settings, output)
    check_allowed(output, settings)
    return open_store(output, settings)


def _note(line: str) -> None:
    log.info("gateway.note", reason=line)
