"""OpenAI's `/v1/files`: upload, list, retrieve, download, delete."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from headrace.storage.store import Store
from producers.gateway.access.callers import Caller, Reader, State, Submitter
from producers.gateway.batches.places import file_content, file_record
from producers.gateway.files.upload import Upload, receive_upload
from producers.gateway.paging import page_of
from producers.gateway.problems import Problem, not_found
from producers.gateway.records import FileRecord, new_id
from producers.gateway.state import Gateway

router = APIRouter(prefix="/v1/files", tags=["files"])

PURPOSES = ("batch",)
BLOCK_BYTES = 1 << 18
LINK_S = 3_600
"""Seconds that a link for a download is valid."""

Limit = Annotated[int, Query(ge=1, le=10_000)]
After = Annotated[str | None, Query(max_length=128)]


@router.post(
    "",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file", "purpose"],
                        "properties": {
                            "file": {"type": "string", "format": "binary"},
                            "purpose": {"type": "string", "enum": list(PURPOSES)},
                        },
                    }
                }
            },
        }
    },
)
async def upload_file(request: Request, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Store a file of lines for a batch. Its lines are checked when a batch is made of it."""
    store = gateway.root.store
    folder = await run_in_threadpool(store.scratch)
    try:
        path = folder / "upload"
        upload = await receive_upload(request, path, gateway.settings.gateway_file_bytes)
        if upload.fields.get("purpose") not in PURPOSES:
            raise Problem(400, "purpose must be batch", code="invalid_value", param="purpose")

        record = await run_in_threadpool(_keep, gateway, caller, upload, path)
    finally:
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)
    return file_json(record)


def _keep(gateway: Gateway, caller: Caller, upload: Upload, path: Any) -> FileRecord:
    """Store content, record and list entry in this order, so that a listed file is complete."""
    record = FileRecord(
        id=new_id("file-"), owner=caller.owner, filename=upload.filename or "file",
        bytes=upload.bytes, purpose=upload.fields["purpose"], created_s=time.time(),
    )  # fmt: skip
    gateway.root.store.create_from_file(file_content(record.id), path)
    gateway.root.create(file_record(record.id), record)
    gateway.root.own(caller.owner, "files", record.id)
    return record


@router.get("")
def list_files(
    gateway: State,
    caller: Reader,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 10_000,
    after: After = None,
) -> dict[str, Any]:
    """The caller's files, the newest first."""
    ids = gateway.root.owned(caller.owner, "files")

    def load(id: str) -> dict[str, Any] | None:
        record = gateway.root.read(FileRecord, file_record(id))
        fits = record is not None and purpose in (None, record.purpose)
        return file_json(record) if record is not None and fits else None

    return page_of(ids, load, limit, after)


@router.get("/{file_id}")
def get_file(file_id: str, gateway: State, caller: Reader) -> dict[str, Any]:
    """One file, without its content."""
    return file_json(owned_file(gateway, caller, file_id))


@router.delete("/{file_id}")
def delete_file(file_id: str, gateway: State, caller: Submitter) -> dict[str, Any]:
    """Delete a file and its content."""
    record = owned_file(gateway, caller, file_id)
    gateway.root.disown(record.owner, "files", file_id)
    gateway.root.store.delete(file_record(file_id))
    gateway.root.store.delete(file_content(file_id))
    return {"id": file_id, "object": "file", "deleted": True}


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/jsonl": {}}}},
)
def download_file(file_id: str, gateway: State, caller: Reader) -> Response:
    """The content: from a bucket by a redirect to a link that is valid for an hour, else streamed."""
    record = owned_file(gateway, caller, file_id)
    return download(gateway.root.store, file_content(file_id), record.filename, "application/jsonl")


def owned_file(gateway: Gateway, caller: Caller, file_id: str) -> FileRecord:
    """The file of this caller.

    Raises:
        Problem: 404, it is not there or another's.
    """
    if not gateway.root.owns(caller.owner, "files", _plain(file_id)):
        raise not_found("file", file_id)
    record = gateway.root.read(FileRecord, file_record(file_id))
    if record is None:
        raise not_found("file", file_id)
    return record


def _plain(id: str) -> str:
    """The id if it is valid; so no other path can be made from it."""
    if not id.replace("-", "").replace("_", "").isalnum() or not id.isascii():
        raise not_found("file", id)
    return id


def download(store: Store, name: str, filename: str, media_type: str) -> Response:
    """A response with an object's content.

    Raises:
        Problem: 404, it is gone.
    """
    link = getattr(store, "link", None)
    if link is not None:
        return RedirectResponse(link(name, LINK_S), status_code=302)
    info = store.head(name)
    if info is None:
        raise not_found("file", filename)
    shown = filename.encode("ascii", "replace").decode().replace('"', "'")
    headers = {
        "Content-Length": str(info.size),
        "Content-Disposition": f'attachment; filename="{shown}"',
    }
    return StreamingResponse(_blocks(store, name), media_type=media_type, headers=headers)


def _blocks(store: Store, name: str) -> Iterator[bytes]:
    with store.open(name) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def file_json(record: FileRecord) -> dict[str, Any]:
    """The file as OpenAI's API shows it."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": int(record.created_s),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
    }
