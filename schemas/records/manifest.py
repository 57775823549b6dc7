"""Receipts, attempts, parked records, the manifest: the records a job leaves in its output."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import OutputConflict
from schemas.records.precision import PrecisionCheck

JobState = Literal["running", "paused", "finished", "failed", "cancelled"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Receipt(_Record):
    """Summary of a committed chunk; advisory, and rebuilt from the part if it is missing."""

    chunk: int
    rows: int
    ok: int
    errors: int
    errors_by_type: dict[str, int] = Field(default_factory=dict)
    bytes: int
    sha256: str
    attempt: str
    tokens: int = 0
    computed: int = 0
    """Rows that went through the model: not errors, not duplicates, not reused."""
    reused: int = 0
    """Rows copied from an earlier output."""
    padding_tokens: int = 0
    truncated: int = 0
    batches: int = 0
    worker: str = ""
    device: str = ""
    trace_id: str | None = None
    started_s: float = 0.0
    seconds: float = 0.0
    """From the lease to the commit."""
    stages_s: dict[str, float] = Field(default_factory=dict)
    tokenizer: str = ""
    """Library and version of the tokenizer, if it is not `tokenizers`."""
    warnings: tuple[str, ...] = ()
    """What loading the model found that the person should read."""


class Attempt(_Record):
    """Why one attempt on a chunk did not end in a part."""

    chunk: int
    number: int
    attempt: str
    cause: str
    """`worker_lost`, `timeout`, or the class of the error."""
    rows: tuple[int, ...] | None = None
    """Rows (within the chunk) that were in the model; None: unknown, so all rows of the chunk."""
    encoding: tuple[int, int] | None = None
    """Rows (first, last + 1) that were in the tokenizer."""
    message: str = ""
    worker: str = ""
    stage: str = ""
    advanced: int = 0
    """Step of the last checkpoint that the attempt committed; the next attempt continues from it."""
    retryable: bool = True
    at_s: float = 0.0
    seen_by: str = ""


class Parked(_Record):
    """A chunk that is not retried automatically."""

    chunk: int
    cause: str
    message: str
    attempts: int
    at_s: float


UNREADABLE = "unreadable_record"
"""The cause if the record of a chunk is damaged or was not written by headrace."""


def parse_attempt(data: bytes, chunk: int, number: int) -> Attempt:
    """The record; one that cannot be read still counts as an attempt."""
    try:
        return Attempt.model_validate_json(data)
    except ValidationError:
        name = f"{UNREADABLE}-{number}"
        return Attempt(chunk=chunk, number=number, attempt=name, cause=UNREADABLE, rows=())


def parse_parked(data: bytes, chunk: int) -> Parked:
    """The record; one that cannot be read still parks its chunk."""
    try:
        return Parked.model_validate_json(data)
    except ValidationError:
        told = "its record was damaged; headrace retry --parked tries the chunk again"
        return Parked(chunk=chunk, cause=UNREADABLE, message=told, attempts=0, at_s=0.0)


class ManifestPart(_Record):
    chunk: int
    name: str
    rows: int
    ok: int
    errors: int
    bytes: int
    sha256: str


class Totals(_Record):
    chunks: int
    parts: int
    parked: int
    rows: int
    planned_rows: int
    ok: int
    errors: int
    errors_by_type: dict[str, int] = Field(default_factory=dict)
    tokens: int = 0
    computed: int = 0
    reused: int = 0
    truncated: int = 0
    padding_tokens: int = 0
    bytes: int = 0
    device_s: float = 0.0
    """Seconds of work, summed over the workers."""
    stages_s: dict[str, float] = Field(default_factory=dict)
    """Busy seconds of each stage, summed over the chunks; stages overlap."""


class Manifest(_Record):
    """`_headrace/manifest.json`: the record that a job is complete, or how it ended."""

    version: int = 1
    job: str
    state: JobState
    reason: str = ""
    cause: str = ""
    """Class of the error that ended the job, if all chunks share it: `missing_extra`, `model_error`."""
    totals: Totals
    parts: tuple[ManifestPart, ...]
    parked: tuple[Parked, ...] = ()
    inputs_digest: str
    model: str
    model_revision: str
    dtype: str = ""
    engine: str = ""
    """What ran the model, as `schemas.records.model_key.engine_name` writes it."""
    precision: PrecisionCheck | None = None
    """How close the answers are to float32's, as checked at the submission."""
    versions: dict[str, str] = Field(default_factory=dict)
    tokenizers: dict[str, int] = Field(default_factory=dict)
    """Chunks by the faster library that tokenized them; all others were tokenized by `tokenizers`."""
    warnings: tuple[str, ...] = ()
    """What was said at the submission, then what workers found as they loaded the model."""
    submitted_s: float
    started_s: float | None = None
    finished_s: float


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Parse the bytes of a manifest.

    Raises:
        OutputConflict: they are not a manifest; the message does not repeat the content.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(
            f"{where} cannot be read as a manifest ({error.error_count()} faults): it was damaged or "
            "changed by hand; headrace verify shows what is there, headrace resume writes it again"
        ) from error
