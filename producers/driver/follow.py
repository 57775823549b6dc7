"""Follows a job to its end, and reconciles it if this process has a controller."""

from __future__ import annotations

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from headrace.coordination.redis_clock import redis_now
from headrace.coordination.store_trouble import parse_trouble
from headrace.process.fast_imports import fast_imports
from headrace.process.logs import get_logger
from headrace.process.numbers import span
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.control.controller import Controller
from producers.control.notify import run_finish_hook
from producers.control.store_patience import StorePatience
from producers.driver.session import Broker
from producers.records.snapshot import Snapshot, take_snapshot
from schemas.errors import DiskFull, HeadraceError, StorageError
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest

log = get_logger(__name__)

TICK_S = 0.25  # chosen: the progress bar moves smoothly, at no visible cost
FILES_S = 5.0  # chosen: every receipt of the job is read each time
AWAY_S = 1.0  # chosen: each call of the store has made its own attempts before
SOON_S = 0.01  # chosen: used once or twice, after our own controller has just ended a job

OnProgress = Callable[[Snapshot], None]
"""Called with the job's current state a few times per second until it is over."""


class Interrupted(Exception):
    """The caller's stop event was set while a job was followed."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended."""

    snapshot: Snapshot
    seconds: float
    """Seconds since this process started to follow it; for a job that had ended, since submission."""
    report: str | None
    """URI of its report, if there is one."""
    warnings: tuple[str, ...] = ()
    log: str | None = None
    """The log of the workers of this command; None for those of a fleet."""


def follow(
    job: Job,
    store: Store,
    broker: Broker | None,
    controller: Controller | None,
    on_progress: OnProgress,
    stop: threading.Event,
    check: Callable[[], None] = lambda: None,
    *,
    give_up_after_s: float = math.inf,
) -> Snapshot:
    """The job once it is over; with a controller, it is reconciled here until then.

    Without a broker the files of the output are read every few seconds. `check` is called in each
    round and raises if continuing is useless.

    A store that is away, refuses or is full is waited for, here and by the workers.

    Raises:
        Interrupted: `stop` was set.
        StorageError, DiskFull: the store failed for `give_up_after_s`, and no chunk was committed.
    """
    patience, rows, is_added = StorePatience(give_up_after_s), 0, False
    while True:
        failure: HeadraceError | None = None
        try:
            if controller is not None and not is_added:
                controller.add(job, store)
                is_added = True
            if controller is not None:
                controller.tick()
            check()
            ended = controller is not None and job.key in controller.ended
            if stop.wait(pause_s(has_broker=broker is not None, ended=ended)):
                raise Interrupted
            now = take_snapshot(store, job, broker.client if broker else None)
            if is_over(now, job, controller):
                return now
            rows = now.rows_done + now.rows_live
            on_progress(now)
        except HeadraceError as error:
            if not error.may_pass:
                raise
            failure = error
            if stop.wait(AWAY_S):
                raise Interrupted from error
        failure = failure or _store_failure(job, broker, controller)
        if patience.is_over(fails=failure is not None, rows=rows, now=time.monotonic()):
            assert failure is not None
            raise _given_up(failure, job, give_up_after_s) from failure


def _store_failure(
    job: Job, broker: Broker | None, controller: Controller | None
) -> HeadraceError | None:
    """What the controller here, or a worker, has lately found wrong with a store."""
    if controller is not None and job.key in controller.store_errors:
        return controller.store_errors[job.key]
    if broker is None:
        return None
    try:
        raw = broker.client.hget(redis_keys.job(job.key), "trouble")
        trouble = parse_trouble(raw, redis_now(broker.client)) if raw else None
    except redis.RedisError:
        return None
    return None if trouble is None else trouble.error


def _given_up(failure: HeadraceError, job: Job, limit_s: float) -> StorageError:
    kind = DiskFull if isinstance(failure, DiskFull) else StorageError
    return kind(
        f"waited {span(limit_s)} for the store (--give-up-after): {failure}; committed parts stay, "
        f"continue with: headrace resume {shlex.quote(job.output)}"
    )


def pause_s(*, has_broker: bool, ended: bool) -> float:
    """Seconds to wait before the job is read again."""
    if ended:
        return SOON_S
    return TICK_S if has_broker else FILES_S


def is_over(now: Snapshot, job: Job, controller: Controller | None) -> bool:
    """True if the manifest says that it is over and our own controller has called its hooks."""
    ours = controller is None or job.key not in controller.tracked
    return now.is_over and now.finished_s is not None and ours


def job_end(now: Snapshot, store: Store, seconds: float, *warnings: str | None) -> JobEnd:
    """The end of a job as a value; a warning that is None is none."""
    try:
        is_there = store.head(output_layout.REPORT) is not None
    except HeadraceError:  # away just now: the job has ended all the same
        is_there = False
    report = f"{now.output}/{output_layout.REPORT}" if is_there else None
    return JobEnd(now, seconds, report, tuple(w for w in warnings if w is not None))


def run_hook(job: Job, store: Store, settings: Settings) -> None:
    """Call `--on-finish`, whichever controller ended the job; its report is there by now."""
    data = store.read(output_layout.MANIFEST)
    if data is not None:
        run_finish_hook(job, parse_manifest(data, store.uri), settings.on_finish)


def write_report_if_able(store: Store, settings: Settings) -> None:
    """Write the report beside the results; none without its extra or if the store fails."""
    from producers.report import build_report

    try:
        store.replace(output_layout.REPORT, build_report(store, settings).encode())
    except HeadraceError as error:
        log.info("job.finished", reason=f"no report: {error}")


def load_report() -> None:
    """Import the libraries of a report, if installed: half a second."""
    with contextlib.suppress(ImportError), fast_imports():
        import jinja2  # noqa: F401
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401

        import producers.report.page  # noqa: F401
