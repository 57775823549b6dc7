"""The end of a job as a value, what is done after it, and the files that say that a job ended."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from headrace.output.job_record import read_job
from headrace.process.fast_imports import fast_imports
from headrace.process.logs import get_logger
from headrace.settings import Settings
from headrace.storage.store import Store
from producers.control.notify import run_finish_hook
from producers.records.snapshot import Snapshot, take_snapshot
from schemas.errors import HeadraceError, OutputConflict
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest

log = get_logger(__name__)


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


def end_of(job: Job, store: Store) -> JobEnd | None:
    """The end of a job that has ended before; None when there is something left to do."""
    now = take_snapshot(store, job, None)
    if now.finished_s is None:
        return None
    return job_end(now, store, now.finished_s - now.submitted_s)


def job_end(now: Snapshot, store: Store, seconds: float, *warnings: str | None) -> JobEnd:
    """The end of a job as a value; a warning that is None is none."""
    try:
        is_there = store.head(output_layout.REPORT) is not None
    except HeadraceError:  # away just now: the job has ended all the same
        is_there = False
    report = f"{now.output}/{output_layout.REPORT}" if is_there else None
    said = (*_found_by_workers(store), *(w for w in warnings if w is not None))
    return JobEnd(now, seconds, report, said)


def _found_by_workers(store: Store) -> tuple[str, ...]:
    """What workers found as they loaded the model; what was said at the submission is left out."""
    try:
        data, job = store.read(output_layout.MANIFEST), read_job(store)
        manifest = None if data is None else parse_manifest(data, store.uri)
    except HeadraceError:  # away just now, or damaged, which others report
        return ()
    if manifest is None or job is None:
        return ()
    return tuple(words for words in manifest.warnings if words not in job.warnings)


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


def is_finished(store: Store) -> bool:
    data = store.read(output_layout.MANIFEST)
    try:
        return data is not None and parse_manifest(data, store.uri).state == "finished"
    except OutputConflict:  # damaged: it is written again at the end
        return False


def clear_stop_flags(store: Store) -> None:
    """Delete what stops a job: cancel, pause, and the manifest of a job that did not finish."""
    for name in (output_layout.CANCELLED, output_layout.PAUSED):
        store.delete(name)
    if not is_finished(store):
        store.delete(output_layout.MANIFEST)
