"""Advances a batch: check its lines, submit its job, follow it, write its answers.

Each step creates an object only if absent. So two gateways, or one after a restart, may do the same
step, and the first one counts. A step that fails is tried again.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import redis

from headrace.coordination.announced_jobs import announce_job
from headrace.output.job_record import read_job
from headrace.process.logs import get_logger
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tasks.generation.engines import TAKE_ROW_SETTINGS
from producers.driver.stop import stop_job
from producers.driver.submission import announce, store_for_fleet
from producers.driver.traced import job_trace
from producers.gateway.batches.answers import write_answers
from producers.gateway.batches.chat import CHAT, SOURCE, common_of
from producers.gateway.batches.check import FAULTS, check_lines
from producers.gateway.batches.memory import return_freed
from producers.gateway.batches.places import (
    answers_file,
    batch_place,
    file_content,
    file_record,
    job_uri,
    open_mark,
)
from producers.gateway.batches.requests import TASKS
from producers.gateway.records import BatchRecord, Checked, Ended, FileRecord, LineError
from producers.gateway.state import Gateway
from schemas.errors import HeadraceError, StorageError, UsageError
from schemas.names import output_layout
from schemas.records.engine import TRANSFORMERS
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest

log = get_logger(__name__)

State = Literal["completed", "failed", "expired", "cancelled"]


def advance(gateway: Gateway, batch: BatchRecord) -> bool:
    """One step of the batch; returns whether it has ended.

    Raises:
        BrokerError, StorageError: a server does not answer; the step is tried again later.
    """
    root = gateway.root
    if root.read(Ended, batch_place(batch.id, "ended.json")) is not None:
        return _close(gateway, batch)
    stop = _stop_wanted(gateway, batch)
    checked = root.read(Checked, batch_place(batch.id, "checked.json"))
    if checked is None:
        if stop is not None:
            return _end(gateway, batch, Ended(state=stop, at_s=time.time()))
        checked = _check(gateway, batch)
        return_freed()
    if checked.error_count:
        return _end(gateway, batch, _refused(checked, checked.errors))
    return _run(gateway, batch, checked, stop)


def _run(
    gateway: Gateway,
    batch: BatchRecord,
    checked: Checked,
    stop: Literal["expired", "cancelled"] | None,
) -> bool:
    """Submit the job, stop it if requested, or finish the batch if the job has ended."""
    job_store = open_store(job_uri(gateway, batch), gateway.settings_of_store())
    job = read_job(job_store)
    if job is None:
        if stop is not None:
            return _finish(gateway, batch, checked, None, stop)
        try:
            _submit(gateway, batch, checked)
        except UsageError as error:
            fault = LineError(code=error.error_type, line=None, message=str(error))
            return _end(gateway, batch, _refused(checked, (fault,)))
        return False
    data = job_store.read(output_layout.MANIFEST)
    if data is None:
        if stop is not None and job_store.head(output_layout.CANCELLED) is None:
            stop_job(job, job_store, gateway.settings_of_store(), "cancelled")
        _announce_again(gateway, job)
        return False
    manifest = parse_manifest(data, job_store.uri)
    state: State = stop if stop and manifest.state == "cancelled" else "completed"
    if manifest.state == "cancelled" and stop is None:
        state = "cancelled"  # by `headrace cancel`
    return _finish(gateway, batch, checked, job_store, state)


def _announce_again(gateway: Gateway, job: Job) -> None:
    """Tell the controllers of a job that has not ended.

    The gateway that stored it may have ended before it did so, and Redis may have forgotten it.
    """
    with contextlib.suppress(HeadraceError, redis.RedisError):  # the next step does it
        announce_job(gateway.broker().client, job.key, job.output)


def _check(gateway: Gateway, batch: BatchRecord) -> Checked:
    root, store = gateway.root, gateway.root.store
    with _scratch(store) as folder:
        try:
            with store.open(file_content(batch.file)) as file:
                engine = gateway.settings_of_store().engine or TRANSFORMERS
                may_vary = engine in TAKE_ROW_SETTINGS
                checked = check_lines(file, batch.endpoint, folder / "lines", may_vary)
        except FileNotFoundError:
            checked = _without_file(batch)
        if not checked.error_count:
            store.create_from_file(batch_place(batch.id, "lines.rows"), folder / "lines")
            if checked.faults:
                store.create_from_file(batch_place(batch.id, "lines.faults"), folder / FAULTS)
    root.create(batch_place(batch.id, "checked.json"), checked)
    log.info(
        "gateway.batch_checked", batch_id=batch.id, rows=checked.rows, count=checked.error_count
    )
    return checked


def _without_file(batch: BatchRecord) -> Checked:
    """The check's result if the file was deleted after the batch was created."""
    fault = LineError(
        code="file_not_found", line=None, message=f"the file {batch.file} was deleted",
        param="input_file_id",
    )  # fmt: skip
    return Checked(at_s=time.time(), lines=0, errors=(fault,), error_count=1)


def _submit(gateway: Gateway, batch: BatchRecord, checked: Checked) -> None:
    """The job of the batch: the same submission each time, so the same job."""
    assert checked.model is not None
    settings = job_settings(gateway, batch, checked)
    broker = gateway.broker()
    lines = f"{gateway.root.store.uri}/{batch_place(batch.id, 'lines.rows')}"
    with job_trace(settings) as (trace, _):
        stored = store_for_fleet(
            settings, [lines], job_uri(gateway, batch), broker, trace, _quiet, _quiet
        )
        announce(stored, broker)
    return_freed()
    log.info("gateway.batch_submitted", batch_id=batch.id, job=stored.job.id, rows=checked.rows)


def job_settings(gateway: Gateway, batch: BatchRecord, checked: Checked) -> Settings:
    """The settings of the batch's job. Its deadline is the end of the completion window."""
    assert checked.model is not None
    changes: dict[str, Any] = {
        "task": TASKS[batch.endpoint],
        "model": gateway.address_of(checked.model),
        "text_column": "text",
        "id_column": "custom_id",
        "columns": ("line",),
        "literal": True,
        "wait_for": None,
        "reuse": None,
    }
    if checked.dimensions is not None:
        changes["truncate_dim"] = checked.dimensions
    if batch.endpoint in SOURCE:
        is_chat = batch.endpoint == CHAT
        changes |= {"chat": is_chat, "messages_column": "text" if is_chat else None}
        changes |= common_of(checked.generation) if checked.varies else checked.generation
        changes["row_settings_column"] = "settings" if checked.varies else None
    return gateway.settings_of_store().model_copy(update=changes)


def _finish(
    gateway: Gateway, batch: BatchRecord, checked: Checked, job_store: Store | None, state: State
) -> bool:
    """Write both result files, then the end of the batch; without a store there was no job."""
    store, began = gateway.root.store, time.time()
    why = state if state != "failed" else "completed"
    with _scratch(store) as folder:
        out, errors = folder / "out", folder / "errors"
        with (
            store.open(batch_place(batch.id, "lines.rows")) as lines,
            _faults(store, batch, checked) as faults,
            out.open("wb") as to_out,
            errors.open("wb") as to_errors,
        ):
            counts = write_answers(
                batch, checked, job_store, (lines, faults), why, to_out, to_errors
            )
        files = [_publish(gateway, batch, kind, folder / kind) for kind in ("out", "errors")]
    ended = Ended(
        state=state, at_s=time.time(), finalizing_s=began, total=checked.lines,
        completed=counts.completed, failed=counts.failed,
        output_file=files[0], error_file=files[1],
    )  # fmt: skip
    return _end(gateway, batch, ended)


@contextlib.contextmanager
def _faults(store: Store, batch: BatchRecord, checked: Checked) -> Iterator[IO[bytes]]:
    """The file of the lines' own faults."""
    if not checked.faults:
        yield io.BytesIO()
        return
    with store.open(batch_place(batch.id, "lines.faults")) as file:
        yield file


def _publish(gateway: Gateway, batch: BatchRecord, kind: str, path: Path) -> str | None:
    """Publish a result file; returns its id, or None if it is empty."""
    size = path.stat().st_size
    if not size:
        return None
    id = answers_file(batch.id, kind)
    gateway.root.store.create_from_file(file_content(id), path)
    name = "output" if kind == "out" else "error"
    record = FileRecord(
        id=id, owner=batch.owner, filename=f"{batch.id}_{name}.jsonl", bytes=size,
        purpose="batch_output", created_s=time.time(), batch=batch.id,
    )  # fmt: skip
    gateway.root.create(file_record(id), record)
    gateway.root.own(batch.owner, "files", id)
    return id


def _end(gateway: Gateway, batch: BatchRecord, ended: Ended) -> bool:
    gateway.root.create(batch_place(batch.id, "ended.json"), ended)
    log.info("gateway.batch_ended", batch_id=batch.id, state=ended.state)
    return _close(gateway, batch)


def _close(gateway: Gateway, batch: BatchRecord) -> bool:
    """Release the quota and remove the batch from the list of open ones; safe to repeat."""
    gateway.quota.release(batch.owner, batch.id)
    gateway.root.store.delete(open_mark(batch.id))
    return True


def _refused(checked: Checked, errors: tuple[LineError, ...]) -> Ended:
    more = checked.error_count - len(checked.errors)
    if more > 0:
        note = f"and {more:,} more lines with errors"
        errors = (*errors, LineError(code="more_errors", line=None, message=note))
    return Ended(
        state="failed", at_s=time.time(), total=checked.lines, failed=checked.error_count,
        errors=errors,
    )  # fmt: skip


def _stop_wanted(gateway: Gateway, batch: BatchRecord) -> Literal["expired", "cancelled"] | None:
    if gateway.root.store.head(batch_place(batch.id, "cancel")) is not None:
        return "cancelled"
    return "expired" if time.time() > batch.expires_s else None


@contextlib.contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    folder = store.scratch()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quiet(note: str) -> None:
    log.info("gateway.note", reason=note)


def request_cancel(gateway: Gateway, batch: BatchRecord) -> None:
    """Request the end of a batch; the next step of any gateway obeys. Raises StorageError."""
    data = json.dumps({"at_s": time.time()}).encode()
    gateway.root.store.create(batch_place(batch.id, "cancel"), data)


def cancel_requested_s(gateway: Gateway, batch_id: str) -> float | None:
    """When the end was requested; None: it was not. Raises StorageError."""
    data = gateway.root.store.read(batch_place(batch_id, "cancel"))
    try:
        return None if data is None else float(json.loads(data)["at_s"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"the cancel mark of {batch_id} was changed by hand") from error


def try_advance(gateway: Gateway, batch: BatchRecord) -> bool:
    """As `advance`; logs errors that may pass and returns False, so that the step is tried again."""
    try:
        has_ended = advance(gateway, batch)
        if has_ended:
            return_freed()
        return has_ended
    except HeadraceError as error:
        log.warning(
            "gateway.batch_retried",
            batch_id=batch.id,
            error_type=error.error_type,
            reason=str(error),
        )
        return False
