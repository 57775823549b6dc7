"""The Celery side of a worker: one parent that receives, one spawned child that computes.

The child is spawned, not forked (CUDA does not survive a fork), and finds its settings in the
environment, as its parent did. Celery pickles the app for it, so what a process needs beyond the
app is made on first use and kept in `_Process`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import redis
from celery import Celery, shared_task, signals

from headrace.coordination.live_workers import PRESENCE_S, heartbeat
from headrace.process.fast_imports import fast_imports
from headrace.process.logs import configure_logging, get_logger
from headrace.queue.celery_config import config_for
from headrace.queue.open import open_queue
from headrace.queue.redis_connection import connect
from headrace.settings import Settings
from schemas.errors import ConfigError
from schemas.records.message import SCORE_CHUNK
from schemas.training_tasks import JOB_TASKS
from workers.consumer.admission import Admission
from workers.consumer.celery_loader import Loader
from workers.consumer.celery_pool import TaskPool
from workers.consumer.child_stop import CHILD_STOP
from workers.consumer.process_settings import process_settings
from workers.execution.fault_injection import fault_hook
from workers.execution.presence import Identity, facts_of

log = get_logger(__name__)

ADMISSION_S = 2.0  # chosen: a host that only fails does so ten times per second at most


class _Process:
    """What one process keeps between messages: its runtime, made once."""

    runtime: Any = None
    telemetry: Any = None
    """The parent's own telemetry, made when a child has died."""
    preload: Any = None
    is_child_told: bool = False
    """Whether the parent has passed a SIGTERM on."""


def make_app(settings: Settings) -> Celery:
    """The worker's app; raises ConfigError without a broker."""
    if settings.broker_url is None:
        raise ConfigError("a worker needs --broker URL or HEADRACE_BROKER_URL")
    app = Celery("headrace", include=["workers.consumer.app"], loader=Loader)
    queue_url = settings.queue_url.get_secret_value() if settings.queue_url else None
    app.conf.update(config_for(settings.broker_url.get_secret_value(), queue_url))
    return app


@shared_task(name=SCORE_CHUNK, ignore_result=True, bind=True)
def score_chunk(self: Any, body: Any) -> None:
    """One message: see `workers.execution.handler.handle`."""
    from workers.execution.handler import handle

    runtime = _runtime(self.app)
    if not runtime.queue.is_wanted(self.request.delivery_info["routing_key"], self.request.id):
        log.info("message.dropped", reason="taken back")
        return
    handle(body, runtime, self.request.id)
    runtime.brake.wait()


def _runtime(app: Celery) -> Any:
    if _Process.runtime is None:
        from headrace.telemetry.provider import start_telemetry
        from workers.execution.metrics import start_counters
        from workers.execution.runtime import Runtime, connect_redis

        settings = process_settings()
        name = worker_name()
        device = _device(settings)
        telemetry = start_telemetry("headrace-worker", settings, worker=name)
        identity = Identity(name, device, settings.threads or 1)
        start_counters(telemetry, device)
        _Process.runtime = Runtime(
            settings, identity, connect_redis(settings), telemetry, app, fault_hook(settings.fault),
            handlers=dict.fromkeys(JOB_TASKS.values(), _training_handler),
        )  # fmt: skip
        if _Process.preload is not None:
            _Process.runtime.models.preload = _Process.preload
        CHILD_STOP.drains_by(partial(_Process.runtime.drain.ask, settings.grace_s))
    return _Process.runtime


def _training_handler(*given: Any) -> Any:
    """The handler of a training; what it imports is for those who train."""
    from workers.training.handler import TrainingHandler

    return TrainingHandler(*given)


def _device(settings: Settings) -> str:
    """The device that the fleet chose for this worker; without a fleet, the CPU."""
    return "cpu" if settings.device == "auto" else settings.device


def worker_name() -> str:
    """The worker's name, given by the fleet, the same in parent and child."""
    return process_settings().worker_name or f"{socket.gethostname()}-{os.getpid()}"


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    from billiard.util import get_logger as of_processes

    configure_logging(process_settings(), sys.stderr)
    of_processes().propagate = True  # billiard turns it off, and its lines were plain text


@signals.worker_process_init.connect
def _child_begins(**_: Any) -> None:
    """Import what the first message needs: our modules now, torch in the background, if requested.

    Celery gives a child two minutes to answer, which importing torch from a slow disk may take.
    """
    with fast_imports():
        import workers.execution.handler  # noqa: F401
        from workers.devices.device import device_inside
        from workers.engines.packed.kernels import warm_up
        from workers.models.preload import Preload
    settings = process_settings()
    _Process.preload = Preload(then=partial(warm_up, device_inside(_device(settings))))
    if settings.preload:
        _Process.preload.begin()


@signals.worker_process_shutdown.connect
def _child_ends(**_: Any) -> None:
    if _Process.runtime is not None:
        _Process.runtime.telemetry.shutdown(5.0)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Pass SIGTERM, also a second one, from the parent to the computing child."""
    log.info("worker.draining", worker=worker_name())
    _tell_child()
    signal.signal(signal.SIGTERM, _tell_child)


def _tell_child(*_: Any) -> None:
    from celery.worker.state import active_requests

    if active_requests:
        _pass_sigterm_on()


def _pass_sigterm_on() -> None:
    from billiard.process import active_children

    _Process.is_child_told = True
    for child in active_children():
        os.kill(child.pid, signal.SIGTERM)


def _stopping_with_work() -> None:
    """The child has a message of which the parent did not know yet when its own SIGTERM came."""
    if not _Process.is_child_told:
        _pass_sigterm_on()


TaskPool.on_stopping = staticmethod(_stopping_with_work)


@signals.worker_ready.connect
def _watch_child(sender: Any = None, **_: Any) -> None:
    """Check the child twice per second: Celery's own timer does so only every five seconds.

    Also write this worker's heartbeat: its child does so only while it holds a chunk.
    """
    settings = process_settings()
    assert settings.broker_url is not None
    client = connect(settings.broker_url.get_secret_value(), name="headrace-parent")
    facts = facts_of(settings)
    sender.timer.call_repeatedly(0.5, sender.pool.maintain_pool)
    queue = open_queue(client, sender.app)

    def sign() -> None:
        heartbeat(client, worker_name(), facts)
        with suppress(redis.RedisError):  # the next one does it
            queue.keep_alive(settings.queue)

    sender.timer.call_repeatedly(PRESENCE_S, sign)
    sign()
    admission = Admission(client, worker_name(), settings.queue, sender)
    sender.timer.call_repeatedly(ADMISSION_S, admission.look)
    admission.look()


@signals.task_failure.connect
def _child_died(sender: Any = None, exception: Any = None, args: Any = None, **_: Any) -> None:
    """Called in the parent when the child died while processing a message."""
    from billiard.exceptions import WorkerLostError

    if isinstance(exception, WorkerLostError) and args:
        _recover(sender.app, args[0])


def _recover(app: Celery, body: Any) -> None:
    """Record and release the chunks of a message whose child died."""
    from headrace.storage.open import open_store
    from workers.execution.crash_recovery import recover_from_crash
    from workers.execution.job_cache import JobCache

    settings = process_settings()
    assert settings.broker_url is not None
    client = connect(settings.broker_url.get_secret_value(), name="headrace-parent")
    jobs = JobCache(lambda uri: open_store(uri, settings))
    telemetry = _parents_telemetry(settings)
    chunks = recover_from_crash(
        client, open_queue(client, app), worker_name(), body, jobs, settings.lease_s, telemetry,
        keep_traces=settings.traces,
    )  # fmt: skip
    telemetry.flush(1.0)  # chosen: an unreachable collector must not delay the next child
    log.warning("worker.lost", worker=worker_name(), chunks=chunks)


def _parents_telemetry(settings: Settings) -> Any:
    """The parent's telemetry, for spans of crashed attempts; made at the first crash."""
    if _Process.telemetry is None:
        from headrace.telemetry.provider import start_telemetry
        from schemas.names.telemetry import SERVICE_WORKER

        name = worker_name()
        _Process.telemetry = start_telemetry(
            SERVICE_WORKER, settings, process=f"{name}-parent", worker=name
        )
    return _Process.telemetry


@signals.worker_shutdown.connect
def _parent_ends(sender: Any = None, **_: Any) -> None:
    from celery.worker.state import active_requests

    # Celery 5.7 ends in silence, with exit code 0, when the child dies during the drain
    for request in list(active_requests):
        _recover(sender.app, request.args[0])
    if _Process.telemetry is not None:
        _Process.telemetry.shutdown(2.0)


def serve(settings: Settings, queues: list[str]) -> int:
    """Receive and compute until SIGTERM; returns the exit code. Blocks."""
    from celery.apps import worker as celery_worker

    # Celery 5.7 writes "worker: Warm shutdown" past all logging, among lines of JSON; the event
    # `worker.draining` says the same.
    celery_worker.safe_say = lambda *_, **__: None
    app = make_app(settings)
    worker = app.Worker(
        hostname=f"{worker_name()}@headrace",
        queues=queues,
        pool="workers.consumer.celery_pool:TaskPool",
        consumer_cls="workers.consumer.celery_consumer:Consumer",
        concurrency=1,
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",  # of Celery and billiard; ours is set with the logging
    )
    worker.start()
    return int(worker.exitcode or 0)
