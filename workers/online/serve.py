"""`headrace-worker serve`: becomes a process as a worker is started, loads a model, serves it."""

from __future__ import annotations

import os
import sys
from typing import Any

from headrace.models.named import version_of
from headrace.process.entrypoint import run_cli
from headrace.process.logs import configure_logging
from headrace.settings import environment_of, load_settings, process_environment
from headrace.telemetry.provider import start_telemetry
from schemas.errors import ConfigError, MissingExtra
from schemas.names.telemetry import SERVICE_WORKER
from workers.devices.device import set_threads
from workers.fleet.slots import cores_available, plan_slots
from workers.models.preload import Preload


def become_the_server(flags: dict[str, Any]) -> None:
    """Replace this process by one that is started as a worker is: memory settings, its own device.

    Raises:
        ConfigError: no model was named, the task has no route, or `device` has no meaning.
    """
    from workers.online.routes import TASKS

    settings = load_settings(**flags)
    if settings.model is None:
        raise ConfigError("name the model: --model")
    if settings.task not in TASKS:
        raise ConfigError(f"serve answers {', '.join(TASKS)}, not {settings.task}")
    slot = plan_slots(settings, cores_available(), count=1)[0]
    changes = {**environment_of(settings), **slot.environment()}
    os.execve(sys.executable, [sys.executable, "-m", __name__], process_environment(**changes))


def main() -> None:
    """Load the model and serve it until SIGTERM."""
    settings = load_settings()
    configure_logging(settings, sys.stderr)
    Preload().wait()
    try:
        from headrace.http.asgi_server import serve
        from workers.online.app import create_app
        from workers.online.door import Door, Follower, open_served
        from workers.online.metrics import OnlineMetrics
    except ImportError as error:
        raise MissingExtra(
            f"serve needs {error.name}: pip install 'headrace[cpu,gateway]' (or gpu)"
        ) from error
    set_threads(settings.device, settings.threads or 1)
    assert settings.worker_name is not None  # the slot's, see `become_the_server`
    telemetry = start_telemetry(SERVICE_WORKER, settings, worker=settings.worker_name)
    door = Door(open_served(settings, version_of(settings)))
    follower = Follower(door, settings)
    follower.start()
    try:
        serve(create_app(door, OnlineMetrics(), telemetry), settings.serve_listen)
    finally:
        follower.close()
        door.close()
        telemetry.shutdown()


if __name__ == "__main__":
    run_cli(main)
