"""Checks that corpus and model are the planned ones, before a job continues."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

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
from schemas.records.job import Job


def verify_inputs_unchanged(job: Job, store: Store, settings: Settings) -> ModelInfo | None:
    """Check that nothing changed; returns the model, None for a task that needs none.

    Raises:
        InputChanged: a file is gone or is another one; names up to three.
        ModelChanged: the model is not the one of the job.
    """
    changed = _changed(PlanTable.load(store).files, settings)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputChanged(
            f"{', '.join(changed[:3])}{more} changed since job {job.id} was planned: put it back, or "
            "submit a new job to another output"
        )
    if not task_spec(job.spec.task).needs_model:
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


def _changed(files: Iterable[InputFile], settings: Settings) -> list[str]:
    def differs(file: InputFile) -> bool:
        root, name = split_uri(file.uri)
        return etag_of(open_store(root, settings), name, file.format) != (
            file.size,
            file.etag,
        )

    listed = list(files)
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return [
            f.uri for f, is_other in zip(listed, pool.map(differs, listed), strict=True) if is_other
        ]
