"""OpenAI's `/v1/batches`: create, list, retrieve, cancel."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from headrace.output.job_record import read_job
from headrace.storage.open import open_store
from producers.gateway.access.callers import Caller, Reader, State, Submitter
from producers.gateway.access.quota import OverQuota
from producers.gateway.batches.advance import cancel_requested_s, request_cancel
from producers.gateway.batches.places import batch_place, job_uri, open_mark
from producers.gateway.files.files_api import owned_file
from producers.gateway.paging import page_of
from producers.gateway.problems import Problem, not_found
from producers.gateway.records import BatchRecord, Checked, Ended, Endpoint, LineError, new_id
from producers.gateway.state import Gateway
from producers.records.snapshot import Snapshot, take_snapshot

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BYTES_PER_TOKEN = 4
"""Of the file, to estimate tokens for the quota. Chosen: English has 4 to 5, and JSON adds some."""
RETRY_S = 60
_WINDOW = re.compile(r"([1-9][0-9]{0,4})([hm])")
_BATCH_ID = re.compile(r"batch_[0-9a-z]{8,64}")

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class NewBatch(BaseModel):
    """The body of a request that creates a batch."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(max_length=128)
    endpoint: Endpoint
    completion_window: str = Field("24h", max_length=8, description="such as 24h or 90m")
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=16)


@router.post("")
def create_batch(
    request: Request, new: NewBatch, gateway: State, caller: Submitter
) -> dict[str, Any]:
    """Create a batch from a file. Its lines are checked later; errors appear in the batch."""
    file = owned_file(gateway, caller, new.input_file_id)
    if file.purpose != "batch":
        raise Problem(
            400, f"file {file.id} has not the purpose batch", code="invalid_value",
            param="input_file_id",
        )  # fmt: skip
    now_s = time.time()
    batch = BatchRecord(
        id=new_id("batch_", now_s), owner=caller.owner, file=file.id, endpoint=new.endpoint,
        completion_window=new.completion_window, created_s=now_s,
        expires_s=now_s + window_s(new.completion_window),
        tokens=max(1, file.bytes // BYTES_PER_TOKEN), metadata=new.metadata,
    )  # fmt: skip
    # the mark comes first: a keeper gives back what a gateway that died in between has reserved
    mark = open_mark(batch.id)
    gateway.root.store.create(mark, caller.owner.encode())
    try:
        gateway.quota.reserve(caller.owner, batch.id, batch.tokens, caller.key.quota_tokens)
    except OverQuota as error:
        gateway.root.store.delete(mark)
        raise Problem(429, str(error), code="token_limit_exceeded", retry_after_s=RETRY_S) from None
    gateway.root.own(caller.owner, "batches", batch.id)
    gateway.root.create(batch_place(batch.id, "batch.json"), batch)
    request.app.state.keeper.wake()
    return batch_json(gateway, batch)


@router.get("")
def list_batches(
    gateway: State,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> dict[str, Any]:
    """The caller's batches, the newest first."""

    def load(id: str) -> dict[str, Any] | None:
        batch = gateway.root.read(BatchRecord, batch_place(id, "batch.json"))
        return None if batch is None else batch_json(gateway, batch)

    return page_of(gateway.root.owned(caller.owner, "batches"), load, limit, after)


@router.get("/{batch_id}")
def get_batch(batch_id: str, gateway: State, caller: Reader) -> dict[str, Any]:
    """One batch: its status, its counts and its files."""
    return batch_json(gateway, owned_batch(gateway, caller, batch_id))


@router.post("/{batch_id}/cancel")
def cancel_batch(
    batch_id: str, request: Request, gateway: State, caller: Submitter
) -> dict[str, Any]:
    """Stop a batch; lines that were answered by then are in its output file."""
    batch = owned_batch(gateway, caller, batch_id)
    ended = gateway.root.read(Ended, batch_place(batch.id, "ended.json"))
    if ended is not None and ended.state != "cancelled":
        raise Problem(409, f"the batch is {ended.state} already", code="batch_ended")
    request_cancel(gateway, batch)
    request.app.state.keeper.wake()
    return batch_json(gateway, batch)


def owned_batch(gateway: Gateway, caller: Caller, batch_id: str) -> BatchRecord:
    """The batch of this caller.

    Raises:
        Problem: 404, it is not there or another's.
    """
    if not _BATCH_ID.fullmatch(batch_id) or not gateway.root.owns(
        caller.owner, "batches", batch_id
    ):
        raise not_found("batch", batch_id)
    batch = gateway.root.read(BatchRecord, batch_place(batch_id, "batch.json"))
    if batch is None:
        raise not_found("batch", batch_id)
    return batch


def window_s(text: str) -> float:
    """Seconds of a completion window, `24h` or `90m`; a week at most.

    Raises:
        Problem: 400, it is none.
    """
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * {"h": 3600, "m": 60}[found[2]] if found else 0
    if not 60 <= seconds <= 7 * 86_400:
        raise Problem(
            400, "completion_window is 24h, or another time of at most 168h", code="invalid_value",
            param="completion_window",
        )  # fmt: skip
    return float(seconds)


def batch_json(gateway: Gateway, batch: BatchRecord) -> dict[str, Any]:
    """The batch in OpenAI's format, as it is now."""
    ended = gateway.root.read(Ended, batch_place(batch.id, "ended.json"))
    checked = gateway.root.read(Checked, batch_place(batch.id, "checked.json"))
    cancelling_s = cancel_requested_s(gateway, batch.id)
    now = None if ended is not None or checked is None else _snapshot(gateway, batch)
    status = ended.state if ended else _status(checked, now, cancelling_s)
    at = ended.at_s if ended else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": checked.model if checked else None,
        "errors": _errors(ended.errors) if ended and ended.errors else None,
        "input_file_id": batch.file,
        "completion_window": batch.completion_window,
        "status": status,
        "output_file_id": ended.output_file if ended else None,
        "error_file_id": ended.error_file if ended else None,
        "created_at": int(batch.created_s),
        "in_progress_at": _whole(now.submitted_s if now else checked.at_s if checked else None),
        "expires_at": int(batch.expires_s),
        "finalizing_at": _whole(ended.finalizing_s if ended else None),
        "completed_at": _whole(at if status == "completed" else None),
        "failed_at": _whole(at if status == "failed" else None),
        "expired_at": _whole(at if status == "expired" else None),
        "cancelling_at": _whole(cancelling_s),
        "cancelled_at": _whole(at if status == "cancelled" else None),
        "request_counts": _counts(ended, checked, now),
        "metadata": batch.metadata,
    }


def _snapshot(gateway: Gateway, batch: BatchRecord) -> Snapshot | None:
    """The state of the batch's job; None before it is stored."""
    store = open_store(job_uri(gateway, batch), gateway.settings_of_store())
    job = read_job(store)
    if job is None:
        return None
    with gateway.broker_if_there() as broker:
        return take_snapshot(store, job, broker.client if broker else None)


def _status(checked: Checked | None, now: Snapshot | None, cancelling_s: float | None) -> str:
    if cancelling_s is not None:
        return "cancelling"
    if checked is None or now is None:
        return "validating"
    return "finalizing" if now.is_over and now.finished_s is not None else "in_progress"


def _counts(ended: Ended | None, checked: Checked | None, now: Snapshot | None) -> dict[str, int]:
    """Lines. Before the end, estimated from rows where lines have several texts."""
    if ended is not None:
        return {"total": ended.total, "completed": ended.completed, "failed": ended.failed}
    if checked is None or now is None:
        failed = checked.faults if checked else 0
        return {"total": checked.lines if checked else 0, "completed": 0, "failed": failed}
    share = (checked.lines - checked.faults) / max(1, checked.rows)
    return {
        "total": checked.lines,
        "completed": int(now.ok * share),
        "failed": checked.faults + int(now.errors * share),
    }


def _errors(errors: tuple[LineError, ...]) -> dict[str, Any]:
    return {"object": "list", "data": [error.model_dump() for error in errors]}


def _whole(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s)
