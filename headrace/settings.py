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
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]

QUEUE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
CommaList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What a person can set. Units stand in the names; None means that headrace decides."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", extra="forbid", frozen=True, validate_default=True
    )

    # -- where things are
    broker_url: SecretStr | None = Field(
        None, description="Redis: redis://, rediss:// or redis+socket://"
    )
    queue_url: SecretStr | None = Field(
        None,
        description="RabbitMQ for the messages alone: amqp:// or amqps://; default: Redis has them",
    )
    registry: str | None = Field(
        None, description="folder or URI that remembers which outputs have jobs"
    )
    queue: str = Field(
        "default",
        pattern=f"^{QUEUE_NAME}$",
        description="queue of the job, and the one a worker serves",
    )
    queues: CommaList = Field((), description="queues a fleet serves; default: queue alone")
    allowed_prefixes: CommaList = Field(
        (), description="URI prefixes that jobs may read and write; empty: any"
    )

    # -- the job
    task: str = Field("text-classification", description="what the model does")
    model: str | None = Field(None, description="local folder, hub id or s3:// folder")
    revision: str | None = Field(None, description="commit of a hub model")
    text_column: str = Field("text", description="column that holds the text")
    text_pair_column: str | None = Field(None, description="column with the second text of a pair")
    id_column: str | None = Field(
        None, description="column that names a row; default: its number in its file"
    )
    columns: CommaList = Field((), description="columns carried through to the output")
    max_length: int | None = Field(None, ge=2, le=1_000_000, description="tokens a row may have")
    dtype: Dtype = Field("auto", description="precision")
    precision_floor: float = Field(
        0.99,
        ge=0,
        le=1,
        description="int8: share of float32's labels, or cosine to its vectors, that must be kept",
    )
    precision_rows: int = Field(
        1_000, ge=10, le=100_000, description="rows of the corpus that precision is checked on"
    )
    accept_precision: bool = Field(
        False, description="int8: go on under the floor, or where nobody could check"
    )
    batch_tokens: int | None = Field(None, ge=1, description="token budget of a batch")
    chunk_rows: int | None = Field(None, ge=1, description="rows of a chunk")
    chunk_bytes: int | None = Field(None, ge=1, description="bytes of text of a chunk")
    limit: int | None = Field(None, ge=1, description="only the first N rows")
    reuse: str | None = Field(
        None, description="an earlier output; its rows are copied where the text is the same"
    )
    scores: bool = Field(False, description="text-classification: a score for every label too")
    multi_label: bool | None = Field(
        None, description="text-classification: labels are independent; default: as the model says"
    )
    aggregation: Literal["none", "simple", "first", "average", "max"] = Field(
        "simple", description="token-classification: how tokens become entities"
    )
    pooling: Literal["auto", "mean", "cls"] = Field(
        "auto", description="feature-extraction: how tokens become one vector"
    )
    normalize: bool | None = Field(
        None, description="feature-extraction: vectors of length 1; default: as the model says"
    )
    task_params: dict[str, Any] = Field(
        default_factory=dict, description="further options of the task, as JSON"
    )
    trust_remote_code: bool = Field(
        False, description="let a model run its own code (read it first)"
    )
    allow_pickle: bool = Field(False, description="load weights that are not safetensors")
    error_threshold: float = Field(
        1.0, ge=0, le=1, description="share of error rows above which the job fails"
    )
    priority: int = Field(0, ge=-100, le=100, description="higher goes first")
    on_finish: str | None = Field(
        None, description="command, or URL that gets a POST, told how the job ended"
    )
    wait_for: str | None = Field(None, description="object that must exist before the job starts")
    wait_for_timeout_s: float = Field(86_400, gt=0, description="how long --wait-for waits")
    max_attempts: int = Field(
        4, ge=1, description="failures without progress before a chunk is parked"
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="price of one worker hour, for estimates"
    )
    deadline: str | None = Field(
        None, description="when the job should be done: 06:00, or 2026-11-24T06:00"
    )
    completion_window: str | None = Field(
        None, description="the same, counted from the submission: 90m, 4h"
    )

    # -- workers
    workers: int | None = Field(None, ge=1, le=1024, description="workers on this machine")
    device: str = Field("auto", description="auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    threads: int | None = Field(None, ge=1, description="threads of one CPU worker")
    grace_s: float = Field(30, ge=0, description="how long a drain may finish the chunk in hand")
    lease_s: float = Field(30, gt=0, description="life of a lease without a heartbeat")
    batch_timeout_s: float = Field(600, gt=0, description="longest time one batch may take")
    model_cache: str | None = Field(None, description="folder for models fetched from s3://")
    preload: bool | None = Field(
        None,
        description="a worker imports torch at its start, not with its first chunk; default: "
        "workers of run, resume and retry",
    )
    traces: bool = Field(True, description="write the spans of each attempt under _traces/")
    worker_name: str | None = Field(None, description="name of a worker; the fleet sets it")
    fault: str | None = Field(None, description="fault injection for tests, e.g. kill:committed:3")

    # -- scaling
    listen: str | None = Field(
        None, description="HOST:PORT on which a controller answers health, scale and metrics"
    )
    controller_url: str | None = Field(
        None, description="controller that a fleet asks how many workers are wanted"
    )
    health: str | None = Field(
        None, description="HOST:PORT on which a fleet answers its health and metrics"
    )
    min_workers: int = Field(0, ge=0, description="workers that stay without work")
    max_workers: int | None = Field(
        None, ge=1, description="most workers of a queue; default: the slots of its hosts"
    )
    startup_s: float = Field(
        60, ge=0, description="from the wish for a worker to its first row, for planning"
    )
    cooldown_s: float = Field(120, ge=0, description="how long without work before a worker goes")
    window_s: float = Field(
        3600, gt=0, description="in what time a job without a deadline should be done"
    )
    budget_per_hour: float | None = Field(
        None, ge=0, description="most that a queue's workers may cost an hour"
    )

    # -- object store
    s3_endpoint_url: str | None = Field(None, description="S3 endpoint that is not AWS")
    s3_region: str | None = Field(None, description="S3 region")
    s3_path_style: bool | None = Field(
        None, description="bucket in the path; default: when an endpoint is set"
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(None, description="server-side encryption")
    s3_sse_kms_key_id: str | None = Field(None, description="key for aws:kms")
    storage_timeout_s: float = Field(
        60, gt=0, description="longest wait for one answer of the store"
    )
    storage_attempts: int = Field(6, ge=1, description="tries for one call of the store")

    # -- what people see
    label_jobs: CommaList = Field(
        (), description="ids of jobs that get series of their own in the metrics"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="json, or text for a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is written"
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
