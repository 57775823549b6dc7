"""`headrace-worker start` and `fleet`: checks the setup, then runs a fleet until a signal."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headrace.process.fast_imports import fast_imports
from headrace.process.logs import configure_logging, get_logger
from headrace.queue.open import check_queue
from headrace.queue.redis_connection import (
    connect,
    ping_or_raise,
    server_warnings,
)
from headrace.settings import (
    Settings,
    environment_of,
    load_settings,
    process_environment,
)
from schemas.errors import ConfigError
from workers.fleet.cpu_limit import cgroup_cpu_limit
from workers.fleet.slots import (
    cores_available,
    describe,
    plan_slots,
)
from workers.fleet.supervisor import Supervisor

log = get_logger(__name__)


def start_fleet(flags: dict[str, Any], *, follows: bool = False) -> int:
    """Run the fleet of this host; returns the exit code.

    With `follows` the controller decides how many of the slots are used; otherwise all are.

    Raises:
        ConfigError: no broker or controller was named, or a setting is invalid.
        BrokerError: Redis does not answer, or rejects the login.
    """
    settings = load_settings(**flags)
    configure_logging(settings, sys.stderr)
    url = _broker_url(settings)
    most = settings.max_workers if follows else None
    slots = plan_slots(settings, cores_available(), most, cgroup_cpu_limit())
    environment = process_environment(**environment_of(settings))
    fleet = Supervisor(slots, environment, settings.grace_s, queue=settings.queue)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: fleet.stop())
    queues = _queues(settings) if follows else [settings.queue]
    with _metrics_folder(settings, fleet) as metrics:
        if not follows:
            fleet.begin()  # they start while the rest of this process starts
        try:
            code = _keep(fleet, settings, url, queues, metrics, follows=follows)
        finally:
            fleet.kill()  # workers are left only after an error of our own
    log.info("worker.stopped", exit_code=code)
    return code


def _keep(
    fleet: Supervisor,
    settings: Settings,
    url: str,
    queues: Sequence[str],
    metrics: Path | None,
    *,
    follows: bool,
) -> int:
    """Watch the fleet until it ends; returns the exit code."""
    with fast_imports():
        from headrace.telemetry.prometheus import forget_gauges
        from workers.fleet.health import serve_health
        from workers.fleet.worker_status import WorkerStatusPoller

    client = _client(url)
    if settings.queue_url is not None:
        check_queue(settings.queue_url.get_secret_value())
    watch = WorkerStatusPoller(client, fleet.running)
    fleet.doing = lambda name: watch.doing.get(name)

    def ended(worker: str) -> None:
        watch.ended(worker)
        if metrics is not None:
            forget_gauges(metrics, worker)

    fleet.on_end = ended
    log.info("worker.started", message=describe(fleet.slots), queue=",".join(queues))
    with (
        _answers(settings, queues, fleet, follows),
        serve_health(settings.health, fleet, watch, metrics),
    ):
        watch.start()
        code = fleet.run()
        watch.stop()
        watch.forget(slot.name for slot in fleet.slots)
    return code


def _broker_url(settings: Settings) -> str:
    if settings.broker_url is None:
        raise ConfigError(
            "headrace-worker needs --broker URL or HEADRACE_BROKER_URL, e.g. redis://localhost:6379/0"
        )
    return settings.broker_url.get_secret_value()


def _client(url: str) -> Any:
    client = connect(url, name="headrace-fleet")
    ping_or_raise(client, url)
    for warning in server_warnings(client):
        log.warning("broker.advice", reason=warning)
    return client


def _queues(settings: Settings) -> list[str]:
    """The queues of a fleet, the one that keeps the minimum first."""
    return list(dict.fromkeys(settings.queues)) or [settings.queue]


@contextlib.contextmanager
def _metrics_folder(settings: Settings, fleet: Supervisor) -> Iterator[Path | None]:
    """The folder of the workers' metrics while the block runs; None if they are not served."""
    if settings.health is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="headrace-metrics-") as name:
        folder = Path(name)
        fleet.environment = {**fleet.environment, "PROMETHEUS_MULTIPROC_DIR": name}
        yield folder


@contextlib.contextmanager
def _answers(
    settings: Settings, queues: Sequence[str], fleet: Supervisor, follows: bool
) -> Iterator[None]:
    """The fleet polls the controller while the block runs."""
    if not follows:
        yield
        return
    if settings.controller_url is None:
        raise ConfigError(
            "headrace-worker fleet needs --controller URL or HEADRACE_CONTROLLER_URL, e.g. "
            "http://localhost:8080 (headrace controller --listen); for a fixed number: start"
        )
    from workers.fleet.scaling_client import ScalingClient

    answers = ScalingClient(
        settings.controller_url,
        queues,
        len(fleet.slots),
        settings.min_workers,
        lambda queue: len(fleet.running(queue)),
        settings.startup_s,
        given_up=fleet.given_up,
    )
    fleet.wanted = lambda: answers.asks
    answers.start()
    try:
        yield
    finally:
        answers.stop()
