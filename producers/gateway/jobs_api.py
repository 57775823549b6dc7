"""headrace's own `/v1/jobs`: submit jobs on stored files, follow, stop, continue, explain, download."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from producers.gateway import jobs
from producers.gateway.access.callers import Caller, Reader, State, Submitter
from producers.gateway.files.files_api import download
from producers.gateway.job_options import NewJob, options_in
from producers.gateway.paging import page_of
from producers.gateway.problems import not_found
from producers.gateway.state import Gateway
from producers.inspection.explain import explain
from producers.records.job_registry import Entry
from producers.records.snapshot import Snapshot
from schemas.names import output_layout

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

EVENT_S = 1.0
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
_PART = re.compile(r"part-\d{5,9}\.parquet")
States = Literal["running", "paused", "finished", "failed", "cancelled"]


@router.post("")
def submit_job(new: NewJob, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Submit a job on files in a store. The same submission again is the same job, with `new` false."""
    inputs = [new.input] if isinstance(new.input, str) else new.input
    job, is_new, warnings = jobs.submit(gateway, caller, inputs, new.output, options_in(new))
    return {
        "id": job.key, "object": "job", "job": job.id, "output": job.output, "rows": job.rows,
        "chunks": job.chunks, "new": is_new, "warnings": warnings,
    }  # fmt: skip


@router.get("")
def list_jobs(
    gateway: State,
    caller: Reader,
    state: States | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """The caller's jobs by the registry, the latest first."""
    found = [e for e in jobs.entries(gateway, caller) if state in (None, e.state)]
    shown = {jobs.key_of(entry): entry for entry in found[offset : offset + limit]}
    page = page_of(shown, lambda key: entry_json(key, shown[key]), limit, None)
    return page | {"has_more": offset + limit < len(found), "total": len(found)}


@router.get("/{job_id}")
def get_job(job_id: str, gateway: State, caller: Reader) -> dict[str, Any]:
    """A job's state and counts, as from `headrace status --json`."""
    return job_json(job_id, jobs.snapshot(gateway, jobs.find(gateway, caller, job_id)))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def job_events(job_id: str, request: Request, gateway: State, caller: Reader) -> Response:
    """The same each second as server-sent events, until the job has ended."""
    await run_in_threadpool(jobs.find, gateway, caller, job_id)
    events = _events(job_id, request, gateway, caller)
    return StreamingResponse(events, media_type="text/event-stream")


async def _events(
    job_id: str, request: Request, gateway: Gateway, caller: Caller
) -> AsyncIterator[bytes]:
    def look() -> Snapshot:
        return jobs.snapshot(gateway, jobs.find(gateway, caller, job_id))

    while not await request.is_disconnected():
        now = await run_in_threadpool(look)
        yield f"event: job\ndata: {json.dumps(job_json(job_id, now))}\n\n".encode()
        if now.is_over:
            return
        await asyncio.sleep(EVENT_S)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Stop the job after the current batches; committed parts stay."""
    found = jobs.find(gateway, caller, job_id)
    jobs.stop(found, "cancelled")
    return job_json(job_id, jobs.snapshot(gateway, found))


@router.post("/{job_id}/pause")
def pause_job(job_id: str, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Pause the job until it is resumed."""
    found = jobs.find(gateway, caller, job_id)
    jobs.stop(found, "paused")
    return job_json(job_id, jobs.snapshot(gateway, found))


@router.post("/{job_id}/resume")
def resume_job(job_id: str, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Continue a job that was cancelled, paused or failed."""
    found = jobs.find(gateway, caller, job_id)
    jobs.resume(gateway, found)
    return job_json(job_id, jobs.snapshot(gateway, found))


@router.post("/{job_id}/retry")
def retry_job(job_id: str, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Try parked chunks again."""
    found = jobs.find(gateway, caller, job_id)
    count = jobs.retry(gateway, found)
    return job_json(job_id, jobs.snapshot(gateway, found)) | {"retried_chunks": count}


@router.get("/{job_id}/explain")
def explain_row(
    job_id: str,
    gateway: State,
    caller: Reader,
    row: Annotated[str, Query(max_length=1024, description="id of the row")],
) -> dict[str, Any]:
    """What happened to the rows with this id."""
    return explain(jobs.find(gateway, caller, job_id).store, row)


@router.get("/{job_id}/report", response_class=HTMLResponse)
def job_report(job_id: str, gateway: State, caller: Reader) -> Response:
    """The job's report."""
    data = jobs.report(jobs.find(gateway, caller, job_id))
    return HTMLResponse(data, headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/{job_id}/parts")
def list_parts(job_id: str, gateway: State, caller: Reader) -> dict[str, Any]:
    """The committed parts, each a Parquet file."""
    store = jobs.find(gateway, caller, job_id).store
    parts = [
        {"id": info.name.removeprefix(output_layout.DATA), "object": "part", "bytes": info.size}
        for info in store.list(output_layout.DATA)
        if output_layout.chunk_of_part(info.name) is not None
    ]
    return {"object": "list", "data": parts}


@router.get(
    "/{job_id}/parts/{name}",
    response_class=Response,
    responses={200: {"content": {"application/vnd.apache.parquet": {}}}},
)
def download_part(job_id: str, name: str, gateway: State, caller: Reader) -> Response:
    """One part: from a bucket by a redirect to a link, else streamed."""
    found = jobs.find(gateway, caller, job_id)
    if not _PART.fullmatch(name):
        raise not_found("part", name)
    place = f"{output_layout.DATA}{name}"
    return download(found.store, place, name, "application/vnd.apache.parquet")


def job_json(job_id: str, now: Snapshot) -> dict[str, Any]:
    """A job as the API shows it."""
    return {"id": job_id, "object": "job", **now.to_json()}


def entry_json(key: str, entry: Entry) -> dict[str, Any]:
    """A job as the registry knows it."""
    return {
        "id": key, "object": "job", "job": entry.id, "output": entry.output, "state": entry.state,
        "task": entry.task, "rows": entry.rows, "submitted_s": entry.submitted_s,
    }  # fmt: skip
