"""Every setting of headrace, in one place: flag, then environment, then `headrace.toml`, then default.

The environment variable of a field is `HEADRACE_` and its name in capitals; its place in
`headrace.toml` (in the working folder, or where `HEADRACE_CONFIG` says) is its name. This module
is the only one that reads the environment.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, create_model, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from headrace.tasks.catalog import BUILT_IN
from schemas.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]

QUEUE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
CommaList = Annotated[tuple[str, ...], NoDecode]


def _task_options() -> dict[str, Any]:
    """A field for each option of our own tasks, as their catalogue has it."""
    fields: dict[str, Any] = {}
    for task in BUILT_IN.values():
        for it in task.params:
            kind: Any = Literal[it.choices] if it.choices else it.type
            kind = kind | None if it.default is None else kind
            fields[it.name] = (kind, Field(it.default, description=f"{task.name}: {it.help}"))
    return fields


if TYPE_CHECKING:
    _TaskOptions = BaseSettings
else:
    _TaskOptions = create_model("_TaskOptions", __base__=BaseSettings, **_task_options())


class Settings(_TaskOptions):
    """What a person can set. Units stand in the names; None means that headrace decides."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", extra="forbid", frozen=True, validate_default=True
    )

    # -- where things are
    broker_url: SecretStr | None = Field(
        None, description="Redis URL: redis://, rediss:// or redis+socket://"
    )
    queue_url: SecretStr | None = Field(
        None,
        description="RabbitMQ URL for the messages, amqp:// or amqps://; default: messages go through Redis",
    )
    registry: str | None = Field(
        None, description="folder or URI with the list of outputs that have jobs"
    )
    model_registry: str | None = Field(
        None, description="folder or URI of the registry of models; default: in the state folder"
    )
    queue: str = Field(
        "default",
        pattern=f"^{QUEUE_NAME}$",
        description="queue for the job; for a worker: the queue to serve",
    )
    queues: CommaList = Field((), description="queues that the fleet serves; default: queue alone")
    allowed_prefixes: CommaList = Field(
        (), description="URI prefixes that jobs may read and write; empty: any"
    )

    # -- the job
    task: str = Field(
        "text-classification",
        description="text-classification, token-classification, feature-extraction, fake, or a plug-in's name",
    )
    model: str | None = Field(
        None, description="local folder, hub id, s3:// folder, or models:/NAME@ALIAS"
    )
    revision: str | None = Field(None, description="commit of a hub model (40 hex digits)")
    text_column: str = Field("text", description="column with the text")
    text_pair_column: str | None = Field(None, description="column with the second text of a pair")
    id_column: str | None = Field(
        None, description="column with row ids; default: the row's number in its file"
    )
    columns: CommaList = Field(
        (), description="input columns to copy to the output, e.g. stars,product"
    )
    max_length: int | None = Field(
        None, ge=2, le=1_000_000, description="maximum tokens per row; default: the model's limit"
    )
    dtype: Dtype = Field("auto", description="precision: auto, float32, bfloat16, float16 or int8")
    precision_floor: float = Field(
        0.99,
        ge=0,
        le=1,
        description="int8: minimum agreement with float32 (share of equal labels, or cosine)",
    )
    precision_rows: int = Field(
        1_000, ge=10, le=100_000, description="rows of the corpus used to check precision"
    )
    accept_precision: bool = Field(
        False, description="int8: run even if agreement is below the floor or could not be checked"
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="maximum tokens per batch; default: found by a short search on the device",
    )
    chunk_rows: int | None = Field(
        None, ge=1, description="rows per chunk; default: about 30 s of work"
    )
    chunk_bytes: int | None = Field(None, ge=1, description="bytes of text per chunk")
    pattern: str | None = Field(
        None,
        description="read only these files of an input folder, e.g. **/*.c000; by name alone",
    )
    limit: int | None = Field(None, ge=1, description="use only the first N rows")
    reuse: str | None = Field(
        None, description="an earlier output; rows with the same text are copied from it"
    )
    task_params: dict[str, Any] = Field(
        default_factory=dict, description="more options for the task, as JSON"
    )
    trust_remote_code: bool = Field(
        False, description="let the model run its own code (read it first)"
    )
    allow_pickle: bool = Field(False, description="allow weights that are not safetensors")
    error_threshold: float = Field(
        1.0, ge=0, le=1, description="share of error rows above which the job fails"
    )
    priority: int = Field(
        0, ge=-100, le=100, description="jobs with a higher priority go first, -100 to 100"
    )
    on_finish: str | None = Field(
        None, description="command to run, or URL to POST to, when the job ends"
    )
    wait_for: str | None = Field(
        None, description="object that must exist before the job starts, e.g. an input's _SUCCESS"
    )
    wait_for_timeout_s: float = Field(86_400, gt=0, description="maximum wait for --wait-for")
    max_attempts: int = Field(
        4, ge=1, description="failed attempts without progress before a chunk is parked"
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="price of one worker-hour, for estimates"
    )
    deadline: str | None = Field(
        None, description="when the job should be done: 06:00, or 2026-11-24T06:00"
    )
    completion_window: str | None = Field(
        None, description="the deadline as a time after submission: 90m, 4h"
    )

    # -- workers
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="worker processes on this machine; default: one per GPU, or one per core",
    )
    device: str = Field("auto", description="auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    threads: int | None = Field(None, ge=1, description="threads per CPU worker")
    grace_s: float = Field(
        30, ge=0, description="time a worker may take to finish its chunk after SIGTERM"
    )
    lease_s: float = Field(
        30, gt=0, description="time after which a lease without a heartbeat expires"
    )
    batch_timeout_s: float = Field(600, gt=0, description="maximum time for one batch")
    model_cache: str | None = Field(None, description="folder for models downloaded from s3://")
    preload: bool | None = Field(
        None,
        description="import torch when a worker starts, not at its first chunk; default: in run, resume and retry",
    )
    traces: bool = Field(True, description="write the spans of each attempt to _traces/")
    worker_name: str | None = Field(None, description="name of the worker; set by the fleet")
    fault: str | None = Field(None, description="fault injection for tests, e.g. kill:committed:3")

    # -- scaling
    listen: str | None = Field(
        None, description="HOST:PORT where the controller serves health, /scale and /metrics"
    )
    controller_url: str | None = Field(
        None, description="controller that sets the number of workers, e.g. http://host:8080"
    )
    health: str | None = Field(
        None, description="HOST:PORT where the fleet serves /livez, /readyz, /status and /metrics"
    )
    min_workers: int = Field(0, ge=0, description="minimum workers, kept even without work")
    max_workers: int | None = Field(
        None,
        ge=1,
        description="maximum workers per queue; default: as many as its hosts have slots",
    )
    startup_s: float = Field(
        60, ge=0, description="time to start a worker and load its model, for planning"
    )
    cooldown_s: float = Field(120, ge=0, description="time without work before a worker is stopped")
    window_s: float = Field(3600, gt=0, description="target time for a job without a deadline")
    budget_per_hour: float | None = Field(
        None, ge=0, description="maximum cost per hour of a queue's workers"
    )

    # -- object store
    s3_endpoint_url: str | None = Field(None, description="S3 endpoint, if it is not AWS")
    s3_region: str | None = Field(None, description="S3 region")
    s3_path_style: bool | None = Field(
        None, description="put the bucket in the path; default: on when an endpoint is set"
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        None, description="server-side encryption: AES256 or aws:kms"
    )
    s3_sse_kms_key_id: str | None = Field(None, description="key id for aws:kms")
    storage_timeout_s: float = Field(
        60, gt=0, description="maximum wait for one response of the store"
    )
    storage_attempts: int = Field(6, ge=1, description="attempts per call of the store")

    # -- what people see
    label_jobs: CommaList = Field(
        (), description="job ids that get their own series in the metrics"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto, json or text; auto: text at a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level to log: debug, info, warning or error"
    )

    @field_validator("queue_url")
    @classmethod
    def _rabbitmq(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(r"amqps?://", url.get_secret_value()):
            raise ValueError("must begin with amqp:// or amqps://")
        return url

    @field_validator("queues")
    @classmethod
    def _queue_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not re.fullmatch(QUEUE_NAME, name)]
        if wrong:
            raise ValueError("a queue's name is letters, digits, '.', '_' and '-', at most 63")
        return names

    @field_validator("columns", "allowed_prefixes", "label_jobs", "queues", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return (
            tuple(p.strip() for p in value.split(",") if p.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("task_params", mode="before")
    @classmethod
    def _parse_json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = Path(os.environ.get("HEADRACE_CONFIG", "headrace.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml)


def load_settings(**flags: Any) -> Settings:
    """The settings in force; a flag that is None was not given.

    Raises:
        ConfigError: a value has no meaning, or `headrace.toml` has an unknown name.
    """
    config = os.environ.get("HEADRACE_CONFIG")
    if config and not Path(config).is_file():
        raise ConfigError(f"HEADRACE_CONFIG names {config}, which is not a file")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except ValueError as error:  # a headrace.toml that is not TOML
        raise ConfigError(f"headrace.toml cannot be read: {error}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for e in error.errors(include_url=False, include_input=False):
        name = ".".join(str(p) for p in e["loc"])
        lines.append(f"{name.replace('_', '-')}: {e['msg']} (also HEADRACE_{name.upper()})")
    return "settings: " + "; ".join(lines)


def state_folder() -> Path:
    """Where headrace keeps what outlives a command and belongs to the user: the registry."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "headrace"


def cache_folder() -> Path:
    """Where headrace keeps what can be made again: fetched models, the demo."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "headrace"


def otel_setting(name: str, signal: str | None = None) -> str | None:
    """A variable of OpenTelemetry, `OTEL_EXPORTER_OTLP_ENDPOINT` and the like; None when empty.

    With a signal (`traces`, `metrics`) the signal's own variable comes first. What headrace does
    not decide by (headers, certificates, resource attributes) the SDK reads by itself.
    """
    own = name.replace("_OTLP_", f"_OTLP_{signal.upper()}_") if signal else name
    return os.environ.get(own, "").strip() or os.environ.get(name, "").strip() or None


def metrics_folder() -> Path | None:
    """Where the workers of a host keep what they count; the fleet says so to its children."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "").strip()
    return Path(folder) if folder and Path(folder).is_dir() else None


def process_environment(**changes: str) -> dict[str, str]:
    """This process's environment with the changes laid over it, for a process it starts."""
    return {**os.environ, **changes}


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables, so that a child process has the very same ones."""
    found = {}
    for name, value in settings.model_dump().items():
        if value is None or value == () or value == {}:
            continue
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(value)
        elif isinstance(value, dict):
            value = json.dumps(value)
        found[f"HEADRACE_{name.upper()}"] = str(value)
    return found
