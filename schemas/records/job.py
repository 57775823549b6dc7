"""A job: one run over a corpus, and the identity that makes the same submission the same job."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from schemas.errors import OutputConflict
from schemas.records.engine import PACKED
from schemas.records.precision import PrecisionCheck
from schemas.records.run_key import job_key
from schemas.records.text_source import made_text

JOB_VERSION = 1
ResolvedDtype = Literal["float32", "bfloat16", "float16", "int8"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Record):
    """A column of the input: its name, and its Arrow type as text."""

    name: str = Field(max_length=1024)
    type: str = Field(max_length=4096)


class ModelRef(_Record):
    """A model: its address, and the revision that identifies it."""

    uri: str = Field(max_length=2048)
    """Local folder, hub id, or `s3://` folder."""
    revision: str = Field(max_length=128)
    """Commit of the hub, or `sha256:…` of the deciding files."""


class Inputs(_Record):
    """The corpus in numbers; its files are in the plan."""

    patterns: tuple[str, ...]
    digest: str
    """sha256 over URI, size and etag of every file, in order."""
    files: int
    rows: int
    bytes: int


class Spec(_Record):
    """What decides the output, and so the job's id."""

    inputs_digest: str
    text_column: str
    """Empty if `text` is set."""
    text: str | None = None
    """A template over columns, as `headrace.formats.template` writes it; absent without one."""
    text_pair_column: str | None = None
    text_pair: str | None = None
    """A template of the second text, if several columns make it; absent without one."""
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    task: str
    params: dict[str, Any] = Field(default_factory=dict)
    model: ModelRef
    dtype: ResolvedDtype
    max_length: int | None = None
    limit: int | None = None
    reuse: str | None = None
    """sha256 of the manifest whose results are reused."""
    engine: str = Field(PACKED, max_length=64)
    """Name of the engine; left out of the record if it is `packed`, as in earlier versions."""
    engine_version: str | None = Field(default=None, max_length=256)
    """Package and version that write the texts of a job that generates; None, and absent: another
    kind of job, or not known where it was submitted."""
    answers_version: int = Field(1, ge=1)
    """Version of how headrace answers this job, see `headrace.tasks.answers`; left out if it is 1."""

    @model_serializer(mode="wrap")
    def _without_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        record: dict[str, Any] = serialize(self)
        if self.engine == PACKED:
            del record["engine"]  # the record is the job's id: the same job keeps it
        if self.answers_version == 1:
            del record["answers_version"]
        if self.text is None:
            del record["text"]
        if self.text_pair is None:
            del record["text_pair"]
        if self.engine_version is None:
            del record["engine_version"]
        return record

    @property
    def text_source(self) -> str:
        """The name under which a reader gives the texts: the column's, or the template's."""
        return self.text_column if self.text is None else made_text(self.text)

    @property
    def pair_source(self) -> str | None:
        """The same for a row's second text; None if it has none."""
        return self.text_pair_column if self.text_pair is None else made_text(self.text_pair)


class Options(_Record):
    """How the job is run: no option changes its results."""

    queue: str = "default"
    priority: int = 0
    batch_tokens: int | None = None
    error_threshold: float = 1.0
    max_attempts: int = 4
    batch_timeout_s: float = 600
    trust_remote_code: bool = False
    allow_pickle: bool = False
    reuse_output: str | None = None
    """The output whose rows may be copied; the spec identifies it by its digest."""
    deadline_s: float | None = None
    """Seconds since the epoch."""


class Predicted(_Record):
    """What the job was expected to take, at its submission; used only by the report."""

    tokens: int
    exact_tokens: bool
    """Whether a sample was counted by the model's tokenizer; else four bytes per token are assumed."""
    tokens_per_s: float
    """Of one worker."""
    measured: bool
    """Whether the speed comes from an earlier job; else it is guessed from the model's size."""
    workers: int
    seconds: float
    worker_hours: float
    price_per_hour: float | None = None
    cost: float | None = None


class Job(_Record):
    """`_headrace/job.json`: written once, before anything is queued."""

    version: int = JOB_VERSION
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    output: str
    spec: Spec
    options: Options
    inputs: Inputs
    id_type: str
    """Arrow type of the id column in the output."""
    text_type: str
    carried: tuple[Column, ...] = ()
    chunks: int
    rows: int
    """Rows planned, after `limit`."""
    submitted_s: float
    versions: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    predicted: Predicted | None = None
    precision: PrecisionCheck | None = None
    """Result of the check at the submission; None if no check was needed."""
    warnings: tuple[str, ...] = ()
    """What was said at the submission."""
    trace_id: str | None = None
    span_id: str | None = None

    @property
    def key(self) -> str:
        """The job in Redis, see `schemas.records.run_key.job_key`."""
        return job_key(self.id, self.output)


def job_id(spec: Spec) -> str:
    """16 hex digits of the sha256 of the spec's canonical JSON."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def parse_job(data: bytes, where: str) -> Job:
    """Parse the bytes of a `job.json`.

    Raises:
        OutputConflict: the bytes are no job of this version, or its id is not its spec's.
    """
    try:
        job = Job.model_validate_json(data)
    except ValidationError as error:
        raise OutputConflict(
            f"{where} is not a job this version of headrace can read: {error.error_count()} faults, "
            f"first: {error.errors(include_input=False)[0]['msg']}"
        ) from error
    if job.version != JOB_VERSION or job.id != job_id(job.spec):
        raise OutputConflict(f"{where} was changed by hand: its id is not the digest of its spec")
    return job
