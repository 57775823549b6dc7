"""Checks that corpus and model are the planned ones, before a job continues."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from headrace.formats.input_identity import has_same_bytes, is_touched
from headrace.formats.opener import etag_of
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import PARALLEL_READS, Store
from headrace.storage.uri import split_uri
from headrace.tasks.answers import check_version
from headrace.tasks.catalog import task_spec
from producers.models.info import ModelInfo
from producers.models.reference import resolve_model
from producers.submission.spec import answers_changed
from schemas.errors import InputChanged, ModelChanged, ModelError
from schemas.records.chunk import InputFile
from schemas.records.engine import ENDPOINT
from schemas.records.job import Job


def verify_inputs_unchanged(
    job: Job, store: Store, settings: Settings, note: Callable[[str], None] = lambda _: None
) -> ModelInfo | None:
    """Check that nothing changed; returns the model, None for a task that needs none.

    A file that was only touched is noted. It counts as changed if the plan has no hash of its
    bytes, since then they cannot be compared.

    Raises:
        InputChanged: a file is gone or is another one; names up to three.
        ModelChanged: the model is not the one of the job.
    """
    files = PlanTable.load(store).files
    states = _states(files, settings)
    for file, state in zip(files, states, strict=True):
        if state == "touched":
            note(f"{file.uri}: touched, same bytes")
    changed = [f for f, state in zip(files, states, strict=True) if state == "changed"]
    if changed:
        raise InputChanged(_refusal(job, changed, settings))
    if not task_spec(job.spec.task).needs_model or job.spec.engine == ENDPOINT:
        return None
    try:
        now = resolve_model(
            job.spec.model.uri,
            None if "sha256" in job.spec.model.revision else job.spec.model.revision,
            job.spec.task,
            lambda uri: open_store(uri, settings),
            allow_pickle=job.options.allow_pickle,
        )
    except ModelError as error:
        raise ModelChanged(f"the model of job {job.id} is no longer there: {error}") from error
    if now.ref.revision != job.spec.model.revision:
        raise ModelChanged(
            f"{job.spec.model.uri} is now {now.ref.revision[:19]}, job {job.id} was planned with "
            f"{job.spec.model.revision[:19]}: put the model back, or submit a new job to another output"
        )
    return now


def verify_answers_unchanged(job: Job, model: ModelInfo | None) -> None:
    """Check that headrace answers this job's rows as it did when the job was submitted.

    Raises:
        ModelChanged: it does not, and the output would mix two kinds of rows.
        ModelError: the model's files ask for what headrace refuses by now.
    """
    if model is None:
        return
    spec, by = job.spec, job.versions.get("headrace")
    changes = answers_changed(spec.task, spec.params, spec.max_length, model)
    check_version(spec.answers_version, changes, f" ({by})" if by else "")


State = Literal["same", "touched", "changed"]


def _states(files: Sequence[InputFile], settings: Settings) -> list[State]:
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(lambda file: _state(file, settings), files))


def _state(file: InputFile, settings: Settings) -> State:
    store, name, now = _now(file, settings)
    if now == (file.size, file.etag):
        return "same"
    is_same = now is not None and has_same_bytes(store, name, file, now)
    return "touched" if is_same else "changed"


def _now(file: InputFile, settings: Settings) -> tuple[Store, str, tuple[int, str] | None]:
    root, name = split_uri(file.uri)
    store = open_store(root, settings)
    return store, name, etag_of(store, name, file.format)


def _refusal(job: Job, changed: Sequence[InputFile], settings: Settings) -> str:
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    names = ", ".join(file.uri for file in changed[:3])
    told = (
        f"{names}{more} changed since job {job.id} was planned: put it back, or submit a new job to "
        "another output"
    )
    first = changed[0]
    now = _now(first, settings)[2]
    if first.content is None and now is not None and is_touched(first, now):
        at = int(first.etag.split("-")[0])
        told += (
            ". Its size and its ends are the same: if you know that its bytes are, give it its time "
            f"back: touch -d @{at // 10**9}.{at % 10**9:09d} {shlex.quote(first.uri)}"
        )
    return told
