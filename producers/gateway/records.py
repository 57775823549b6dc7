"""Records in the gateway's store: keys, files, batches. Each is written once."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import StorageError

Scope = Literal["submit", "read", "admin"]
"""`admin` sees the jobs of every key and moves aliases of models."""

SCOPES: tuple[Scope, ...] = ("submit", "read", "admin")
Endpoint = Literal[
    "/v1/embeddings", "/v1/classifications", "/v1/chat/completions", "/v1/completions"
]

_LAST_MS = 10**14
"""Ids begin with the milliseconds left until this moment, so that the newest is listed first."""


class Record(BaseModel):
    """A record in the gateway's store."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KeyRecord(Record):
    """`keys/{sha256}.json`: what a key may do. The key itself is not stored."""

    id: str
    name: str = Field(min_length=1, max_length=64)
    scopes: tuple[Scope, ...]
    prefixes: tuple[str, ...] = ()
    """What its jobs may read and write, besides the gateway's own limits; empty: those alone."""
    quota_tokens: int | None = Field(None, ge=1)
    """Most tokens in batches that have not ended; None: no limit."""
    created_s: float


class FileRecord(Record):
    """`files/{id}.json`: a file that was uploaded, or the answers of a batch."""

    id: str
    owner: str
    filename: str
    bytes: int
    purpose: str
    created_s: float
    batch: str | None = None
    """The batch whose answers it holds."""


class BatchRecord(Record):
    """`batches/{id}/batch.json`: the request."""

    id: str
    owner: str
    file: str
    endpoint: Endpoint
    completion_window: str
    created_s: float
    expires_s: float
    tokens: int
    """Tokens of the owner's quota that are reserved until the end."""
    metadata: dict[str, str] | None = None


class LineError(Record):
    """Why a line cannot be answered."""

    code: str
    line: int | None
    """From 1; None: it is about the whole file."""
    message: str
    param: str | None = None


class Checked(Record):
    """`batches/{id}/checked.json`: the result of the check of its lines."""

    at_s: float
    lines: int
    rows: int = 0
    """Texts; a line may have several."""
    faults: int = 0
    """Lines that are valid and ask for what is not served; the others are answered."""
    generation: dict[str, Any] = {}
    """Options of the job, by their names as settings, if its model writes."""
    varies: bool = False
    """Whether lines have settings of their own: then those of the options are of the first line."""
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None
    errors: tuple[LineError, ...] = ()
    """The first hundred."""
    error_count: int = 0


class Ended(Record):
    """`batches/{id}/ended.json`: how it ended."""

    state: Literal["completed", "failed", "expired", "cancelled"]
    at_s: float
    finalizing_s: float | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    errors: tuple[LineError, ...] = ()


R = TypeVar("R", bound=Record)


def parse(kind: type[R], data: bytes, where: str) -> R:
    """The record in the bytes.

    Raises:
        StorageError: they hold something else.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(f"{where} is no {kind.__name__}: it was changed by hand") from error


def new_id(kind: str, now_s: float | None = None) -> str:
    """A new id such as `batch_…`; of two ids, the one made later comes first in order of name."""
    left_ms = _LAST_MS - int((time.time() if now_s is None else now_s) * 1000)
    return f"{kind}{left_ms:015d}{secrets.token_hex(8)}"
