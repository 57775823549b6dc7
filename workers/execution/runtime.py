"""What lives as long as a worker process: its connections, its jobs, the model on its device."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import redis

from headrace.process.fast_imports import gc_paused
from headrace.process.logs import get_logger
from headrace.queue.celery_config import send
from headrace.queue.dead_letter import dead_letter
from headrace.queue.redis_connection import connect
from headrace.settings import Settings, cache_folder
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest
from headrace.tasks.registry import check_columns, load_task
from headrace.telemetry.provider import Telemetry
from schemas.errors import ModelError
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.message import ScoreChunk
from schemas.records.model_key import (
    engine_key,
    model_name,
    speed_key,
)
from workers.batching.budget_cache import BudgetCache, facts_of_job
from workers.batching.packing import Budget
from workers.devices.device import (
    device_inside,
    dtypes_of,
    in_flight_of,
    not_served,
    set_threads,
)
from workers.execution.drain import Drain, WorkerLimits
from workers.execution.job_cache import JobCache
from workers.execution.metrics import DeviceUtilization
from workers.models.fetch import local_model
from workers.models.preload import Preload
from workers.pipeline.loaded_task import LoadedTask

log = get_logger(__name__)
_STORES_KEPT = 64  # chosen: Hive folders of a few jobs
SAY_AGAIN_S = 10.0  # chosen: an outage of a night is 3,000 lines


def _exit_at_once() -> NoReturn:
    os._exit(1)  # no clean end: a device that is lost may never give its memory back


def _tell_parent() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is: `name` is unique while it lives and stays the same for its children."""

    name: str
    device: str
    threads: int


@dataclass(slots=True)
class Runtime:
    """Made once a process, by the Celery app; everything else is handed down from it."""

    settings: Settings
    identity: Identity
    client: Any
    telemetry: Telemetry
    sender: Any
    """The Celery app, to publish what a drain gives back."""
    fault: Callable[[str], None] = lambda step: None
    """Called with the name of each step of a chunk; tests kill here."""
    preload: Preload = field(default_factory=Preload)
    """What a task on a transformers model imports, perhaps begun already."""
    leave: Callable[[], NoReturn] = _exit_at_once
    """Ends this process, which computes; its parent starts another."""
    end_worker: Callable[[], None] = _tell_parent
    """Ends the parent too, after what it has in hand: the fleet starts it again, later each time."""
    drain: Drain = field(default_factory=Drain)
    device_use: DeviceUtilization = field(default_factory=DeviceUtilization)
    jobs: JobCache = field(init=False)
    _engine: tuple[str, LoadedTask, BudgetCache] | None = None
    _said_away_s: float = float("-inf")
    _stores: dict[str, Store] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = JobCache(self.open_store)

    @property
    def terms(self) -> WorkerLimits:
        s = self.settings
        return WorkerLimits(s.lease_s, s.batch_timeout_s, s.grace_s)

    def open_store(self, uri: str) -> Store:
        """The store at a URI; the last few are kept, since a client of S3 costs 0.1 s to make."""
        if uri not in self._stores:
            if len(self._stores) >= _STORES_KEPT:
                self._stores.clear()
            self._stores[uri] = open_store(uri, self.settings)
        return self._stores[uri]

    def engine(self, job: Job) -> LoadedTask:
        """The job's model on this worker's device; the last one is kept.

        Raises:
            ModelError, ModelChanged: the model cannot be loaded, or is not the one planned.
        """
        wanted = engine_key(job)
        if self._engine is None or self._engine[0] != wanted:
            self._engine = None  # the old model leaves before the new one comes
            with gc_paused():
                self._engine = (wanted, *self._load(job))
        _, engine, book = self._engine
        engine.budget = book.start(job.options.batch_tokens)
        return engine

    def loaded(self, job: Job) -> str:
        """The job's model as people know it, when it is the one on the device; else empty."""
        is_there = self._engine is not None and self._engine[0] == engine_key(job)
        return model_name(job) if is_there else ""

    def reject(self, body: Any, why: str) -> None:
        """Put a message aside that is not ours to execute."""
        log.warning("message.rejected", reason=why)
        try:
            dead_letter(self.client, body, why)
        except redis.RedisError as error:
            self.redis_away(error)

    def refuse(self, message: ScoreChunk, why: str) -> None:
        """Put a message aside whose job this worker cannot reach, and tell the job's controller.

        If no worker can, the job would wait for ever: the controller ends it with the reason.
        """
        self.reject(message.model_dump(mode="json"), why)
        try:
            pipe = self.client.pipeline()
            pipe.hincrby(redis_keys.job(message.key), "refused", 1)
            pipe.hset(redis_keys.job(message.key), "refused_why", why)
            pipe.expire(redis_keys.job(message.key), redis_keys.JOB_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def complain(self, key: str, chunk: int, cause: str, why: str) -> None:
        """Tell whoever follows the job why a chunk just failed: its record may find no room."""
        try:
            told = {"at_s": time.time(), "chunk": chunk, "why": why[:500], "cause": cause}
            pipe = self.client.pipeline()
            pipe.hset(redis_keys.job(key), "trouble", json.dumps(told))
            pipe.expire(redis_keys.job(key), redis_keys.JOB_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def give_back(self, message: ScoreChunk, chunks: list[int], queue: str) -> None:
        """Publish chunks again that were released; the controller does it too, only later."""
        if not chunks:
            return
        again = message.model_copy(update={"chunks": tuple(chunks)})
        try:
            send(self.sender, again, queue)
        except Exception as error:  # kombu's and redis-py's; the controller finds the gap
            self.redis_away(error)

    def redis_away(self, error: Exception) -> None:
        """Say it, but not for every batch of an outage."""
        now = time.monotonic()
        if now - self._said_away_s >= SAY_AGAIN_S:
            self._said_away_s = now
            log.warning("broker.unreachable", error_type=type(error).__name__)

    def _load(self, job: Job) -> tuple[LoadedTask, BudgetCache]:
        device = self.identity.device
        spec = task_spec(job.spec.task)
        if spec.needs_model and job.spec.dtype not in dtypes_of(device):
            raise ModelError(f"job {job.id} wants {not_served(job.spec.dtype, device)}")
        started = time.monotonic()
        task = load_task(job.spec.task)
        # the weights are hashed while torch is still being imported
        path = str(self._resolve(job)) if spec.needs_model else ""
        ahead_s = self.preload.wait(started) if spec.engine else 0.0
        if path:
            set_threads(device, self.identity.threads)
        task.load(
            LoadRequest(
                model_path=path,
                device=device_inside(device),
                dtype=job.spec.dtype,
                max_length=job.spec.max_length,
                params=job.spec.params,
                trust_remote_code=job.options.trust_remote_code and self.settings.trust_remote_code,
                allow_pickle=job.options.allow_pickle and self.settings.allow_pickle,
            )
        )
        check_columns(spec, task.columns())
        seconds = round(ahead_s + time.monotonic() - started, 3)
        self._tell_load(job, seconds)
        log.info("model.loaded", task=job.spec.task, device=device, seconds=seconds)
        book = BudgetCache(
            task, device_inside(device), facts_of_job(job), cache_folder() / "budgets"
        )
        padded = bool(getattr(task, "padded", True))
        usual = Budget(task.default_batch_tokens())
        ahead = in_flight_of(device)
        return LoadedTask(task, usual, padded, device, on_halved=book.learn, in_flight=ahead), book

    def _tell_load(self, job: Job, seconds: float) -> None:
        """Say what the model costs to load: whoever moves workers between queues reckons with it."""
        try:
            pipe = self.client.pipeline(transaction=False)
            pipe.hset(redis_keys.MODEL_LOAD_SECONDS, speed_key(job), seconds)
            pipe.expire(redis_keys.MODEL_LOAD_SECONDS, redis_keys.SPEEDS_LIFE_S)
            pipe.execute()
        except redis.RedisError as error:
            self.redis_away(error)

    def _resolve(self, job: Job) -> Path:
        return local_model(
            job.spec.model.uri,
            job.spec.model.revision,
            self.settings,
            self.open_store,
            allow_pickle=job.options.allow_pickle and self.settings.allow_pickle,
            trust_remote_code=job.options.trust_remote_code and self.settings.trust_remote_code,
        )


def connect_redis(settings: Settings) -> Any:
    """The worker's own connection, for leases and signs of life."""
    assert settings.broker_url is not None
    return connect(settings.broker_url.get_secret_value(), name="headrace-worker")
