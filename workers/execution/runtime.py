"""The long-lived objects of a worker process: connections, jobs, the model on its device."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from headrace.formats.opener import InputOpener
from headrace.queue.open import open_queue
from headrace.queue.queue import MessageQueue
from headrace.queue.redis_connection import connect
from headrace.redis_client import RedisClient
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from workers.execution.drain import Brake, Drain, WorkerLimits
from workers.execution.job_cache import JobCache
from workers.execution.metrics import DeviceUtilization
from workers.execution.model_loader import ModelLoader
from workers.execution.presence import Identity
from workers.execution.redis_reports import RedisReports

_STORES_KEPT = 64  # chosen: Hive folders of a few jobs


def _exit_at_once() -> NoReturn:
    os._exit(1)  # no clean exit: a lost device may never release its memory


def _stop_parent() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


@dataclass(slots=True)
class Runtime:
    """Made once per process, by the Celery app; everything else is passed down from it."""

    settings: Settings
    identity: Identity
    client: RedisClient
    telemetry: Telemetry
    sender: Any
    """The Celery app, to publish what a drain releases."""
    fault: Callable[[str], None] = lambda step: None
    """Called with the name of each step of a chunk; tests kill the process here."""
    exit_process: Callable[[], NoReturn] = _exit_at_once
    """Ends this computing process; its parent starts another."""
    end_worker: Callable[[], None] = _stop_parent
    """Ends the parent too, after its current work; the fleet restarts it, with a growing delay."""
    handlers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """By task: what makes the handler of a message, where it is not `MessageHandler`."""
    drain: Drain = field(default_factory=Drain)
    device_use: DeviceUtilization = field(default_factory=DeviceUtilization)
    queue: MessageQueue = field(init=False)
    brake: Brake = field(init=False)
    jobs: JobCache = field(init=False)
    models: ModelLoader = field(init=False)
    reports: RedisReports = field(init=False)
    inputs: InputOpener = field(init=False)
    _stores: dict[str, Store] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.brake = Brake(self.drain)
        self.jobs = JobCache(self.open_store)
        self.queue = open_queue(self.client, self.sender)
        self.reports = RedisReports(self.client, self.queue)
        self.models = ModelLoader(
            self.settings, self.identity, self.open_store, self.reports.report_load_time
        )
        self.inputs = InputOpener(self.open_store)

    @property
    def limits(self) -> WorkerLimits:
        s = self.settings
        return WorkerLimits(s.lease_s, s.batch_timeout_s, s.grace_s, s.load_timeout_s)

    def open_store(self, uri: str) -> Store:
        """The store at a URI; the last few are cached, since an S3 client takes 0.1 s to make."""
        if uri not in self._stores:
            if len(self._stores) >= _STORES_KEPT:
                self._stores.clear()
            self._stores[uri] = open_store(uri, self.settings)
        return self._stores[uri]


def connect_redis(settings: Settings) -> Any:
    """The worker's own Redis connection, for leases and heartbeats."""
    assert settings.broker_url is not None
    return connect(settings.broker_url.get_secret_value(), name="headrace-worker")
