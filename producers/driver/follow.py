"""Drive a job to its end from this process, show it, and say how it ended."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace.process.fast_imports import fast_imports
from headrace.process.logs import get_logger
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.control.controller import Controller
from producers.control.notify import run_finish_hook
from producers.records.snapshot import Snapshot, take_snapshot
from producers.terminal.context import (
    Broker,
    err,
    out,
)
from producers.terminal.progress import duration, show_progress
from schemas.errors import ExitCode, HeadraceError
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest

log = get_logger(__name__)

TICK_S = 0.25  # chosen: a bar that moves, at a cost nobody sees
FILES_S = 5.0  # chosen: every receipt of the job is read each time
SOON_S = 0.01  # chosen: once or twice, for what our own controller has just ended

_CODES = {
    "finished": ExitCode.OK,
    "failed": ExitCode.JOB_FAILED,
    "cancelled": ExitCode.JOB_CANCELLED,
}


class Interrupted(Exception):
    """Ctrl-C or SIGTERM while a job was followed."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal acts as it would without us."""
    asked = threading.Event()
    earlier: dict[int, Any] = {}

    def ask(signum: int, frame: object) -> None:
        asked.set()
        signal.signal(signum, earlier[signum])

    for signum in (signal.SIGINT, signal.SIGTERM):
        earlier[signum] = signal.signal(signum, ask)
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def follow(
    job: Job,
    store: Store,
    broker: Broker | None,
    controller: Controller | None,
    check: Callable[[], None] = lambda: None,
    *,
    quiet: bool = False,
) -> Snapshot:
    """Show the job until it is over; with a controller, reconcile it as well.

    Without a broker the files of the output are looked at, now and then.

    Raises:
        Interrupted: somebody asked us to stop.
    """
    if controller is not None:
        controller.add(job, store)
    with interruptible() as asked:

        def tick() -> None:
            if controller is not None:
                controller.tick()
            check()
            ended = controller is not None and job.key in controller.ended
            if asked.wait(pause_s(has_broker=broker is not None, ended=ended)):
                raise Interrupted

        def snapshot() -> Snapshot:
            return take_snapshot(store, job, broker.client if broker else None)

        if quiet:
            while True:
                tick()
                now = snapshot()
                if is_over(now, job, controller):
                    return now
        return show_progress(snapshot, lambda now: is_over(now, job, controller), err, tick)


def pause_s(*, has_broker: bool, ended: bool) -> float:
    """How long to wait before the job is looked at again."""
    if ended:
        return SOON_S
    return TICK_S if has_broker else FILES_S


def is_over(now: Snapshot, job: Job, controller: Controller | None) -> bool:
    """Over when the manifest says so; and our own controller has told whoever wants to know."""
    ours = controller is None or job.key not in controller.tracked
    return now.is_over and now.finished_s is not None and ours


def conclude(now: Snapshot, store: Store, *, as_json: bool, seconds: float) -> int:
    """Print how the job ended; returns the exit code."""
    if as_json:
        out.print_json(json.dumps(now.to_json()))
    else:
        for line in summary(now, seconds):
            out.print(line, highlight=False, soft_wrap=True)
        is_there = store.head(output_layout.REPORT) is not None
        report = (
            f"{now.output}/{output_layout.REPORT}" if is_there else f"headrace report {now.output}"
        )
        out.print(f"  report  {report}", highlight=False, soft_wrap=True)
    return _CODES.get(now.state, ExitCode.OK)


def tell_if_ended_elsewhere(job: Job, store: Store, controller: Controller) -> None:
    """Tell `--on-finish` of a job that another controller ended: that one knows no hook of ours."""
    data = store.read(output_layout.MANIFEST)
    if job.key not in controller.ended and data is not None:
        run_finish_hook(job, parse_manifest(data, store.uri), controller.on_finish)


def write_report_if_able(store: Store, settings: Settings) -> None:
    """The report beside the results; without its extra, or with a store that fails, none."""
    from producers.report import build_report

    try:
        store.replace(output_layout.REPORT, build_report(store, settings).encode())
    except HeadraceError as error:
        log.info("job.finished", reason=f"no report: {error}")


def load_report() -> None:
    """Import what a report is made with, where it is installed: half a second."""
    with contextlib.suppress(ImportError), fast_imports():
        import jinja2  # noqa: F401
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401

        import producers.report.page  # noqa: F401


def summary(now: Snapshot, seconds: float) -> list[str]:
    """The end of a job in a few lines."""
    color = {"finished": "green", "failed": "red"}.get(now.state, "yellow")
    rate = f" ({now.rows_done / seconds:,.0f} rows/s)" if seconds > 0 and now.rows_done else ""
    lines = [
        f"[bold {color}]{now.state}[/] job {now.job}{f': {now.reason}' if now.reason else ''}",
        f"  rows    {now.rows_done:,} of {now.rows:,}: {now.ok:,} ok, {now.errors:,} error "
        f"in {duration(seconds)}{rate}",
    ]
    if now.errors:
        kinds = ", ".join(
            f"{k} {n:,}" for k, n in sorted(now.errors_by_type.items(), key=lambda x: -x[1])
        )
        lines.append(f"  errors  {kinds}")
    for chunk in now.parked[:5]:
        lines.append(f"  parked  chunk {chunk['chunk']}: {chunk['cause']}: {chunk['message']}")
    lines.append(f"  output  {now.output}/data")
    if now.state == "failed" and now.chunks_parked:
        lines.append(f"  next    headrace retry --parked {now.output}")
    elif now.state in ("cancelled", "failed") and now.rows_done < now.rows:
        lines.append(f"  next    headrace resume {now.output}")
    return lines
