"""Names of a batch's objects in the gateway's store. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from producers.gateway.records import BatchRecord

if TYPE_CHECKING:
    from producers.gateway.state import Gateway


def batch_place(id: str, name: str) -> str:
    return f"batches/{id}/{name}"


def file_record(id: str) -> str:
    return f"files/{id}.json"


def file_content(id: str) -> str:
    return f"files/{id}.jsonl"


def open_mark(id: str) -> str:
    """A mark that exists until the batch has ended; gateways list these."""
    return f"open/{id}"


def answers_file(batch_id: str, kind: str) -> str:
    """The id of a file of answers: the same for every gateway that writes it."""
    digest = hashlib.sha256(f"{batch_id}/{kind}".encode()).hexdigest()[:16]
    return f"file-{batch_id.removeprefix('batch_')[:15]}{digest}"


def job_uri(gateway: Gateway, batch: BatchRecord) -> str:
    """The output of the batch's job."""
    return f"{gateway.root.store.uri}/{batch_place(batch.id, 'job')}"
