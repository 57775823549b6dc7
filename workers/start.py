"""`headrace-worker start`: check what can be checked, then keep a fleet until a signal."""

from __future__ import annotations

import signal
import sys
from typing import Any

from schemas.broker import connect, ping_or_raise, server_warnings
from schemas.errors import ConfigError
from schemas.settings import environment_of, load_settings, process_environment
from schemas.telemetry.logs import configure_logging, get_logger
from workers.fleet import Fleet, cores_available, describe, plan_slots

log = get_logger(__name__)


def start_fleet(flags: dict[str, Any]) -> int:
    """Run the fleet of this host; returns the exit code.

    Raises:
        ConfigError: no broker was named, or a setting has no meaning.
        BrokerError: Redis does not answer, or does not let us in.
    """
    settings = load_settings(**flags)
    configure_logging(settings, sys.stderr)
    if settings.broker_url is None:
        raise ConfigError(
            "headrace-worker needs --broker URL or HEADRACE_BROKER_URL, e.g. redis://localhost:6379/0"
        )
    url = settings.broker_url.get_secret_value()
    client = connect(url, name="headrace-fleet")
    ping_or_raise(client, url)
    for warning in server_warnings(client):
        log.warning("worker.started", reason=warning)
    slots = plan_slots(settings, cores_available())
    fleet = Fleet(slots, process_environment(**environment_of(settings)), settings.grace_s)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: fleet.stop())
    log.info("worker.started", message=describe(slots), queue=settings.queue)
    code = fleet.run()
    log.info("worker.stopped", exit_code=code)
    return code
