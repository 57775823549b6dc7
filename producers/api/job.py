"""A job as an object: its state, its end, its rows explained."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from headrace.settings import Settings
from headrace.storage.store import Store
from producers.api.progress import job_html, shown
from producers.driver.drive import Interrupted, OnProgress, drive, follow
from producers.driver.job_end import end_of
from producers.driver.session import Broker, broker_if_any
from producers.driver.stop import stop_job
from producers.driver.traced import job_trace
from producers.records.snapshot import NO_REDIS, REDIS_DOWN, Snapshot, take_snapshot
from producers.verification.result import VerifyResult
from schemas.errors import HeadraceError, JobCancelled, JobFailed
from schemas.records.job import Job as JobRecord


class Job:
    """A job in its output. It holds no connection; every answer is read when it is asked for."""

    def __init__(self, record: JobRecord, store: Store, settings: Settings) -> None:
        self._record = record
        self._store = store
        self._settings = settings

    @property
    def id(self) -> str:
        """16 hex digits; the same submission has the same id."""
        return self._record.id

    @property
    def output(self) -> str:
        """The address of its output."""
        return self._store.uri

    def status(self) -> Snapshot:
        """Its state in numbers: rows, chunks, errors, workers.

        Raises:
            StorageError: the store does not answer.
        """
        with self._broker() as broker:
            without = NO_REDIS if self._settings.broker_url is None else REDIS_DOWN
            client = broker.client if broker else None
            return take_snapshot(self._store, self._record, client, without=without)

    def wait(
        self, *, progress: bool | OnProgress = True, timeout_s: float | None = None
    ) -> Snapshot:
        """Its last state, once it has ended.

        `progress` shows a bar, or a table in a notebook; a function gets each snapshot instead. With
        a broker the job is driven from here if no controller does.

        Raises:
            JobFailed, JobCancelled: it ended in another way than finished.
            TimeoutError: it did not end in `timeout_s` seconds; it continues.
        """
        over = end_of(self._record, self._store)
        now = over.snapshot if over is not None else self._follow(progress, timeout_s)
        return require_finished(now)

    def cancel(self) -> None:
        """Stop it after the current batch; committed parts stay. Nothing, if it has ended.

        Raises:
            StorageError: the store does not answer.
        """
        stopped = stop_job(self._record, self._store, self._settings, "cancelled")
        for warning in stopped.warnings:
            warnings.warn(warning, stacklevel=2)

    def verify(self) -> VerifyResult:
        """A recount of the output against its input; `.raise_if_wrong()` raises VerifyFailed.

        Raises:
            OutputConflict: its record or plan was changed by hand.
        """
        from producers.verification.verify import verify

        return verify(self._store, self._settings, now_s=time.time())

    def explain(self, id: object) -> dict[str, Any]:
        """What happened to the rows with this id: part, attempts, error, trace.

        Raises:
            ColumnError: the id is not of the id column's type.
        """
        from producers.inspection.explain import explain

        return explain(self._store, str(id))

    def _follow(self, progress: bool | OnProgress, timeout_s: float | None) -> Snapshot:
        with self._broker() as broker, _limit(timeout_s) as stop, shown(progress) as on_progress:
            try:
                return self._watch(broker, on_progress, stop)
            except Interrupted:
                raise TimeoutError(
                    f"job {self.id} did not end in {timeout_s:g} s; it continues"
                ) from None

    def _watch(
        self, broker: Broker | None, on_progress: OnProgress, stop: threading.Event
    ) -> Snapshot:
        job, store, settings = self._record, self._store, self._settings
        if settings.broker_url is None or broker is None:
            return follow(job, store, broker, None, on_progress, stop)
        with job_trace(settings) as (trace, telemetry):
            trace.adopt(job, store)
            end = drive(job, store, broker, settings, trace, telemetry, on_progress, stop)
        return end.snapshot

    @contextlib.contextmanager
    def _broker(self) -> Iterator[Broker | None]:
        """The broker of the job, if one answers."""
        broker = broker_if_any(self._settings, self._record)
        try:
            yield broker
        finally:
            if broker is not None:
                broker.close()

    def __repr__(self) -> str:
        return f"<headrace job {self.id} in {self.output}>"

    def _repr_html_(self) -> str:
        """The job as a notebook shows it; what cannot be read now is said."""
        try:
            return job_html(self.status())
        except HeadraceError as error:
            return job_html(replace(_unknown(self._record, self.output), reason=str(error)))


def require_finished(now: Snapshot) -> Snapshot:
    """The snapshot of a finished job.

    Raises:
        JobFailed, JobCancelled: it ended in another way.
    """
    if now.state == "finished":
        return now
    kind = JobCancelled if now.state == "cancelled" else JobFailed
    raise kind(f"job {now.job} in {now.output} is {now.state}: {now.reason or 'see its report'}")


@contextlib.contextmanager
def _limit(timeout_s: float | None) -> Iterator[threading.Event]:
    """An event that is set after so many seconds; never for None."""
    stop = threading.Event()
    timer = None if timeout_s is None else threading.Timer(timeout_s, stop.set)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield stop
    finally:
        if timer is not None:
            timer.cancel()


def _unknown(job: JobRecord, output: str) -> Snapshot:
    """The snapshot of a job of which nothing but its record is known."""
    return Snapshot(
        job=job.id, output=output, state="running", reason="", rows=job.rows, rows_done=0,
        rows_live=0, ok=0, errors=0, errors_by_type={}, tokens=0, chunks=job.chunks, chunks_done=0,
        chunks_leased=0, chunks_parked=0, workers=0, submitted_s=job.submitted_s, finished_s=None,
        task=job.spec.task, model=job.spec.model.uri,
    )  # fmt: skip
