"""`controller`: the one always-on process beside Redis."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import redis

from headrace.coordination.announced_jobs import announced_jobs
from headrace.process.logs import get_logger
from headrace.process.signals import interruptible
from headrace.redis_client import RedisClient
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.telemetry.provider import start_telemetry
from producers.commands.session import Session
from producers.control.controller import Controller
from producers.driver.job_end import write_report_if_able
from producers.driver.session import job_in, needed_broker, update_registry
from producers.records.job_registry import open_registry
from producers.scaling.endpoint import Liveness, serve_scaling
from schemas.errors import ExitCode, HeadraceError, StorageError, error_type_of
from schemas.names import telemetry as names
from schemas.records.job import Job
from schemas.records.manifest import Manifest

log = get_logger(__name__)

TICK_S = 0.5  # chosen: an idle worker waits half of it on average
LOOK_S = 5.0  # chosen: how often new jobs are looked for in the registry


def run_controller(session: Session) -> int:
    """Reconcile all known jobs until SIGTERM, and serve how many workers they want.

    Raises:
        ConfigError: no broker was named, or the address of `--listen` cannot be used.
        BrokerError: Redis does not answer.
    """
    settings = session.settings
    broker = needed_broker(settings)
    for advice in broker.warnings():
        log.warning("broker.advice", reason=advice)
    telemetry = start_telemetry(names.SERVICE_CONTROLLER, settings)
    # on a thread: plots take seconds, in which no chunk would be published
    reports = ThreadPoolExecutor(1, thread_name_prefix="headrace-report")

    def note_end(job: Job, manifest: Manifest) -> None:
        warning = update_registry(settings, job, manifest.state)
        if warning is not None:
            session.terminal.warn(warning)
        reports.submit(_write_report, job, settings)

    controller = Controller(
        broker.client,
        broker.sender,
        takes_all_jobs=True,
        emitter=telemetry,
        keep_traces=settings.traces,
        open_store=partial(open_store, settings=settings),
        give_up_after_s=settings.give_up_after_s,
        on_finish=settings.on_finish,
        on_end=note_end,
    )
    log.info("controller.started", name=controller.name)
    looked = -LOOK_S
    unreadable: set[str] = set()
    pulse = Liveness()
    with (
        interruptible() as stop,
        serve_scaling(settings, broker.client, pulse, telemetry) as port,
    ):
        if port is not None:
            log.info("scaling.listening", endpoint=settings.listen)
        while not stop.is_set():
            if time.monotonic() - looked >= LOOK_S or _has_news(broker.client, controller):
                looked = time.monotonic()
                _look(controller, settings, broker.client, unreadable)
            controller.tick()
            pulse.beat()
            stop.wait(TICK_S)
    controller.close()
    reports.shutdown(cancel_futures=True)
    telemetry.shutdown(5.0)
    log.info("controller.stopped", name=controller.name)
    return ExitCode.OK


def _write_report(job: Job, settings: Settings) -> None:
    """The report beside the results of a job that this controller finished, as `run` writes it."""
    try:
        write_report_if_able(open_store(job.output, settings), settings)
    except Exception as error:  # a report is no reason to end the controller
        log.warning("report.failed", job=job.id, error_type=error_type_of(error))


def _has_news(client: RedisClient, controller: Controller) -> bool:
    """Whether a job was just announced in Redis that this controller does not know."""
    try:
        return any(not controller.knows(key) for key in announced_jobs(client))
    except redis.RedisError:
        return False


def _look(
    controller: Controller, settings: Settings, client: RedisClient, unreadable: set[str]
) -> None:
    """Find jobs that have not ended: in the registry, and as Redis remembers them."""
    for output in sorted(outputs_of_jobs(settings, client) - unreadable):
        try:
            job, store = job_in(output, settings)
        except StorageError as error:  # it may answer the next time
            log.warning("store.unreachable", output=output, error_type=error_type_of(error))
            continue
        except HeadraceError as error:
            unreadable.add(output)
            log.warning(
                "job.failed",
                output=output,
                error_type=error_type_of(error),
                error_message=str(error),
            )
            continue
        controller.add(job, store)


def outputs_of_jobs(settings: Settings, client: RedisClient) -> set[str]:
    """Outputs of jobs that have not ended; of registry and Redis, those that answer."""
    outputs: set[str] = set()
    try:
        outputs |= {entry.output for entry in open_registry(settings).running()}
    except HeadraceError as error:
        log.warning("store.unreachable", error_type=error_type_of(error), error_message=str(error))
    try:
        outputs |= set(announced_jobs(client).values())
    except redis.RedisError as error:
        log.warning("broker.unreachable", error_type=error_type_of(error))
    return outputs
