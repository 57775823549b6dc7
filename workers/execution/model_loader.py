"""Loads a job's model onto the worker's device and keeps it for the next job with the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from headrace.process.fast_imports import gc_paused
from headrace.process.logs import get_logger
from headrace.profiles.vocabulary import Vocabulary
from headrace.settings import Settings, cache_folder
from headrace.storage.store import Store
from headrace.tasks.answers import AskedModel, changes_of, check_version
from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest, Task
from headrace.tasks.registry import check_columns, load_task
from schemas.errors import MissingExtra, ModelError
from schemas.records.engine import ENDPOINT
from schemas.records.job import Job
from schemas.records.model_key import engine_key, model_name
from workers.batching.budget_cache import BudgetCache, facts_of_job
from workers.batching.packing import Budget
from workers.devices.device import (
    device_inside,
    dtypes_of,
    in_flight_of,
    not_served,
    set_threads,
)
from workers.execution.presence import Identity
from workers.models.fetch import local_model
from workers.models.load import read_json
from workers.models.preload import Preload
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.profile import vocabulary_of

log = get_logger(__name__)


@dataclass(slots=True)
class ModelLoader:
    """One model at a time: the last one stays on the device."""

    settings: Settings
    identity: Identity
    open_store: Callable[[str], Store]
    on_loaded: Callable[[Job, float], None] = lambda job, seconds: None
    """Called with the job and the seconds that the load took."""
    preload: Preload = field(default_factory=Preload)
    """The import of what a task on a transformers model needs, possibly started already."""
    _kept: tuple[str, LoadedTask, BudgetCache] | None = None
    _vocabulary: tuple[LoadedTask, Vocabulary | None] | None = None

    def load(self, job: Job) -> LoadedTask:
        """The job's model on this worker's device, loaded if it is not there yet.

        Raises:
            ModelError, ModelChanged: the model cannot be loaded, or is not the one planned.
            MissingExtra: a package that the task needs is not installed here.
        """
        wanted = engine_key(job)
        if self._kept is None or self._kept[0] != wanted:
            self._kept = self._vocabulary = None  # free the old model before loading the new one
            with gc_paused():
                self._kept = (wanted, *self._load_or_say_what_is_missing(job))
        _, loaded, budgets = self._kept
        loaded.budget = budgets.start(job.options.batch_tokens)
        return loaded

    def _load_or_say_what_is_missing(self, job: Job) -> tuple[LoadedTask, BudgetCache]:
        try:
            return self._load(job)
        except ImportError as error:
            missing = f"the package {error.name}" if error.name else "a package"
            raise MissingExtra(
                f"task {job.spec.task} needs {missing}, which cannot be imported on "
                f"{socket.gethostname()} ({error}): pip install 'headrace[cpu]' or 'headrace[gpu]'"
            ) from error

    def vocabulary(self, loaded: LoadedTask) -> Vocabulary | None:
        """The tokens of the model's tokenizer, read once per model; None where it has none."""
        if self._vocabulary is None or self._vocabulary[0] is not loaded:
            self._vocabulary = (loaded, vocabulary_of(loaded.task))
        return self._vocabulary[1]

    def name_if_loaded(self, job: Job) -> str:
        """The name of the job's model, if it is on the device; else empty."""
        is_there = self._kept is not None and self._kept[0] == engine_key(job)
        return model_name(job) if is_there else ""

    def _load(self, job: Job) -> tuple[LoadedTask, BudgetCache]:
        device = self.identity.device
        spec = task_spec(job.spec.task)
        if spec.needs_model and job.spec.dtype not in dtypes_of(device):
            raise ModelError(f"job {job.id} wants {not_served(job.spec.dtype, device)}")
        started = time.monotonic()
        is_remote = job.spec.engine == ENDPOINT
        task = _remote_task() if is_remote else load_task(job.spec.task, params=job.spec.params)
        # the weights are hashed while torch is still being imported
        path = str(self._path(job)) if spec.needs_model and not is_remote else ""
        if path:
            _require_same_answers(job, path)
        ahead_s = self.preload.wait(started) if spec.engine and not is_remote else 0.0
        if path:
            set_threads(device, self.identity.threads)
        notes: list[str] = []
        where = job.spec.model.uri if is_remote else path
        task.load(replace(self._request(job, where), warn=notes.append))
        check_columns(spec, task.columns(), job.spec.params)
        seconds = round(ahead_s + time.monotonic() - started, 3)
        self.on_loaded(job, seconds)
        log.info("model.loaded", task=job.spec.task, device=device, seconds=seconds)
        budgets = BudgetCache(
            task, device_inside(device), facts_of_job(job), cache_folder() / "budgets"
        )
        loaded = self._with_budget(task, budgets)
        loaded.warnings = tuple(notes)
        return loaded, budgets

    def _request(self, job: Job, path: str) -> LoadRequest:
        return LoadRequest(
            model_path=path,
            device=device_inside(self.identity.device),
            dtype=job.spec.dtype,
            max_length=job.spec.max_length,
            engine=job.spec.engine,
            params=job.spec.params,
            trust_remote_code=job.options.trust_remote_code and self.settings.trust_remote_code,
            allow_pickle=job.options.allow_pickle and self.settings.allow_pickle,
        )

    def _with_budget(self, task: Task, budgets: BudgetCache) -> LoadedTask:
        device = self.identity.device
        return LoadedTask(
            task,
            Budget(task.default_batch_tokens()),
            bool(getattr(task, "padded", True)),
            device,
            on_halved=budgets.learn,
            in_flight=in_flight_of(device),
        )

    def _path(self, job: Job) -> Path:
        return local_model(
            job.spec.model.uri,
            job.spec.model.revision,
            self.settings,
            self.open_store,
            allow_pickle=job.options.allow_pickle and self.settings.allow_pickle,
            trust_remote_code=job.options.trust_remote_code and self.settings.trust_remote_code,
        )


def _remote_task() -> Task:
    """The task of a job whose model is behind an API."""
    from workers.tasks.remote.endpoint_generation import EndpointGeneration

    return EndpointGeneration()


def _require_same_answers(job: Job, folder: str) -> None:
    """Check that this worker answers the job as the headrace that submitted it meant.

    Raises:
        ModelChanged: its rows would be others than those of the parts that may be there.
    """
    read = partial(read_json, folder)
    config = read("config.json") or {}
    spec, by = job.spec, job.versions.get("headrace")
    asked = AskedModel(spec.task, spec.params, spec.max_length, config, read, folder)
    check_version(spec.answers_version, changes_of(asked), f" ({by})" if by else "")
