"""`headrace drift`: a night against a reference, and the verdict as the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

from headrace.models.registry import open_model_registry, parse_address
from headrace.output.job_record import require_job
from headrace.profiles.profile import Profile, parse_profile
from headrace.profiles.store import read_job_profile
from headrace.profiles.vocabulary import read_vocabulary
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.uri import normalise_uri
from producers.commands.session import Session
from producers.quality.drift import FLOOR, FLOORS, Drift, drift
from producers.quality.features import FEATURES
from producers.quality.reference import profile_of_output
from producers.quality.word_texts import texts_with
from producers.submission.dates import fill_dates, logical_date
from producers.terminal.drift import Shown, as_json, render_drift
from schemas.errors import ConfigError, ExitCode, JobNotFound
from schemas.records.job import Job
from schemas.records.model_version import SCHEME

NIGHTS = 14
"""Chosen: two weeks, so that each day of the week is in it twice."""
WITH_TEXTS = 8
"""Chosen: words whose texts are shown."""


def drift_of_output(
    session: Session,
    output: str,
    against: str,
    *,
    nights: str | None,
    floor: str | None,
    label_column: str | None,
    with_texts: bool,
) -> int:
    """Show how far the output is from the reference; exit code 28 where it has drifted."""
    settings = session.settings
    floors, general = read_floors(floor)
    day = logical_date(settings.date, date.today())
    output, against = fill_dates(output, day), fill_dates(against, day)
    store = open_store(output, settings)
    job = require_job(store)
    now = profile_of_output(output, settings)
    reference = reference_profile(against, settings, label_column)
    earlier = {} if nights is None else last_nights(nights, day, {output, against}, settings)
    found = drift(reference, now, tuple(earlier.values()), floors, general)
    found = _with_note_of_model(found, job, against, settings)
    vocabulary = read_vocabulary(store)
    words = {
        m.token: vocabulary.word(m.token)
        for feature in found.features
        for m in feature.moved
        if m.token is not None and vocabulary is not None
    }
    texts = {}
    if with_texts:
        risen = [words[t] for t in _risen(found) if t in words]
        texts = texts_with(risen, store, job.spec.text_source, settings)
    shown = Shown(found, store.uri, against, tuple(earlier), words, texts)
    _tell(session, job.options.queue, against, found)
    if session.as_json:
        session.terminal.print_json(as_json(shown))
    else:
        session.terminal.show(render_drift(shown))
    return ExitCode.DRIFT if found.drifted else ExitCode.OK


def reference_profile(against: str, settings: Settings, label_column: str | None) -> Profile:
    """The profile of an output, or the one that was registered with a version of a model.

    Raises:
        ConfigError: the version has none; see also `profile_of_output`.
    """
    if not against.startswith(SCHEME):
        return profile_of_output(against, settings, label_column)
    registry = open_model_registry(settings)
    version = registry.find(parse_address(against))
    data = registry.profile(version)
    if data is None:
        raise ConfigError(
            f"{SCHEME}{version.name}/{version.version} has no reference: headrace models register "
            f"{version.name} {version.model.uri} --task {version.task} --reference OUTPUT"
        )
    return parse_profile(data, against)


def last_nights(
    pattern: str, day: date, without: set[str], settings: Settings
) -> dict[str, Profile]:
    """The profiles of the outputs of the 14 days before; days without a job are left out.

    Raises:
        ConfigError: the pattern has no date in it.
    """
    dated = partial(fill_dates, pattern)
    outputs = [dated(day - timedelta(days=back)) for back in range(1, NIGHTS + 1)]
    if len(set(outputs)) == 1:
        raise ConfigError(f"--nights {pattern}: it needs {{date}}, such as 'scored/{{date}}'")
    known = {normalise_uri(name) for name in without if not name.startswith(SCHEME)}
    found: dict[str, Profile] = {}
    for output in outputs:
        if normalise_uri(output) in known:
            continue
        store = open_store(output, settings)
        with contextlib.suppress(JobNotFound):
            profile = read_job_profile(store, require_job(store))
            if profile.rows:
                found[output] = profile
    return found


def read_floors(text: str | None) -> tuple[dict[str, float], float]:
    """`0.1,tokens=0.2` as limits of single features, and that of all others; None: the defaults.

    Raises:
        ConfigError: it is written in another way, or names no feature.
    """
    floors: dict[str, float] = {}
    general: float | None = None
    for piece in filter(None, (text or "").split(",")):
        name, equals, number = piece.rpartition("=")
        name = name.strip()
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1 or (equals and name not in FEATURES):
            raise ConfigError(
                f"--floor {text}: write 0.1, or FEATURE=0.2 with one of {', '.join(FEATURES)}; "
                "a distance is 0 to 1"
            )
        if equals:
            floors[name] = value
        else:
            general = value
    if general is None:
        return {**FLOORS, **floors}, FLOOR
    return floors, general


def _with_note_of_model(found: Drift, job: Job, against: str, settings: Settings) -> Drift:
    """The same, with a note where another model scored the reference."""
    if against.startswith(SCHEME):
        version = open_model_registry(settings).find(parse_address(against))
        other = version.model
    else:
        other = require_job(open_store(against, settings)).spec.model
    if other == job.spec.model:
        return found
    note = f"another model, {other.uri}, scored the reference: labels and scores differ by that too"
    return replace(found, notes=(*found.notes, note))


def _risen(found: Drift) -> list[int]:
    """The tokens that became more frequent, if tokens drifted."""
    risen = (
        m.token
        for feature in found.drifted
        for m in feature.moved
        if m.token is not None and m.after > m.before
    )
    return list(dict.fromkeys(risen))[:WITH_TEXTS]


def parts_of_limits(found: Drift) -> Mapping[str, float]:
    """Distance by feature as a part of its limit; what is not beyond chance is at most 1."""
    return {
        f.name: f.distance.value / max(f.limit, 1e-9) if f.is_drift
        else min(1.0, f.distance.value / max(f.limit, 1e-9))
        for f in found.features
    }  # fmt: skip


def _tell(session: Session, queue: str, against: str, found: Drift) -> None:
    """Leave the verdict in Redis, where the controller's metrics are made; best effort."""
    url = session.settings.broker_url
    if url is None:
        return
    import redis

    from headrace.coordination.drift_verdicts import remember_drift
    from headrace.queue.redis_connection import connect

    expected = None if found.expected is None else found.expected[1]
    try:
        client = connect(url.get_secret_value(), name="headrace-drift")
        remember_drift(client, queue, against, parts_of_limits(found), expected)
    except redis.RedisError as error:
        session.terminal.warn(f"the verdict is in no metric: Redis: {type(error).__name__}")
