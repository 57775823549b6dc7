"""Every setting, declared once: name, type, default, bounds, help, and the options it is offered in.

`headrace.settings` makes the validated settings from this, the command lines make their options.
It imports nothing heavy, so that `--help` needs no validation library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

if TYPE_CHECKING:
    from pydantic import SecretStr

    CommaList = tuple[str, ...]

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]

QUEUE_SCHEMES = ("amqp", "amqps")
"""Of `queue_url`; `headrace.queue.open` has a row for each."""

QUEUE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"

Group = Literal["The job", "How it is run", "Object store"]
"""The groups of options that `run`, `submit` and `plan` have."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a setting is, beside its name and type."""

    default: Any
    help: str
    group: Group | None = None
    """Where `run`, `submit` and `plan` offer it; None: they do not."""
    flag: str | None = None
    """Of its option; None: `--` and the name, and for a bool that may be unset `--no-…` too."""
    bounds: tuple[tuple[str, Any], ...] = ()
    """As pydantic's `Field` has them: `ge`, `gt`, `le`, `pattern`."""


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A setting that is no option of a job."""
    return Setting(default, help, bounds=tuple(bounds.items()))


def job(default: Any, help: str, **bounds: Any) -> Any:
    """One that is about the job."""
    return Setting(default, help, "The job", bounds=tuple(bounds.items()))


def run(default: Any, help: str, **bounds: Any) -> Any:
    """One that is about how the job is run."""
    return Setting(default, help, "How it is run", bounds=tuple(bounds.items()))


def store(default: Any, help: str, flag: str | None = None) -> Any:
    """One that is about the object store."""
    return Setting(default, help, "Object store", flag)


class SettingFields:
    """What a person can set. Units stand in the names; None means that headrace decides."""

    # -- where things are
    broker_url: SecretStr | None = setting(
        None,
        "Redis URL: redis://, rediss://, redis+socket://, redis+sentinel:// or rediss+sentinel://",
    )
    queue_url: SecretStr | None = setting(
        None,
        "RabbitMQ URL for the messages, amqp:// or amqps://; default: messages go through Redis",
    )
    registry: str | None = run(None, "folder or URI with the list of outputs that have jobs")
    model_registry: str | None = setting(
        None,
        "folder or URI of the registry of models, or mlflow+http(s)://HOST of an MLflow server; "
        "default: in the state folder",
    )
    model_registry_token: SecretStr | None = setting(
        None, "token, or USER:PASSWORD, for an MLflow server that keeps the registry of models"
    )
    allowed_endpoints: CommaList = setting(
        (), "addresses that jobs with --endpoint may name, and what begins with them; empty: any"
    )
    endpoint_key: SecretStr | None = setting(
        None, "key that a worker sends to the API of --endpoint; never stored"
    )
    endpoint_requests: int = setting(
        8, "requests that a worker has at the API of --endpoint at once", ge=1, le=1_024
    )
    endpoint_timeout_s: float = setting(
        300.0, "seconds that an answer of the API of --endpoint may take", gt=0
    )
    vllm_python: str | None = run(
        None, "Python of the environment with vLLM, for --engine vllm; of this machine's workers"
    )
    queue: str = run(
        "default", "queue that takes the job, or that the worker serves", pattern=f"^{QUEUE_NAME}$"
    )
    queues: CommaList = setting((), "queues that the fleet serves; default: queue alone")
    allowed_prefixes: CommaList = setting(
        (), "URI prefixes that jobs may read and write; empty: any"
    )

    # -- the job
    task: str = job(
        "text-classification",
        "text-classification, token-classification, feature-extraction, zero-shot-classification, "
        "text-ranking, sparse-embedding, choice, text-generation, text2text-generation, "
        "summarization, translation, fake, or a plug-in's name",
    )
    model: str | None = job(None, "local folder, hub id, s3:// folder, or models:/NAME@ALIAS")
    revision: str | None = job(None, "commit of a hub model (40 hex digits)")
    text_column: str = job("text", "column with the text")
    text: str | None = job(None, r"text made of columns, e.g. '{title}\n{body}' or 'query: {text}'")
    text_pair_column: str | None = job(None, "column with the second text of a pair")
    id_column: str | None = job(None, "column with row ids; default: the row's number in its file")
    columns: CommaList = job((), "input columns to copy to the output, e.g. stars,product")
    max_length: int | None = job(
        None, "maximum tokens per row; default: the model's limit", ge=2, le=1_000_000
    )
    dtype: Dtype = job("auto", "precision: auto, float32, bfloat16, float16 or int8")
    engine: str | None = job(
        None,
        "what runs a model that generates: transformers, ctranslate2, vllm, endpoint, or an installed "
        "engine's name",
    )
    precision_floor: float = job(
        0.99, "int8: minimum agreement with float32 (share of equal labels, or cosine)", ge=0, le=1
    )
    precision_rows: int = job(
        1_000, "rows of the corpus used to check precision", ge=10, le=100_000
    )
    accept_precision: bool = job(
        False, "int8: run even if agreement is below the floor or could not be checked"
    )
    batch_tokens: int | None = run(
        None, "maximum tokens per batch; default: found by a short search on the device", ge=1
    )
    chunk_rows: int | None = run(None, "rows per chunk; default: about 30 s of work", ge=1)
    chunk_bytes: int | None = run(None, "bytes of text per chunk", ge=1)
    date: str | None = job(
        None, "the day that {date} means in paths, e.g. 2026-11-24; default: today, in local time"
    )
    literal: bool = job(False, "take INPUT as it is written: no wildcards, no {date}")
    pattern: str | None = job(
        None, "read only these files of an input folder, e.g. **/*.c000; by name alone"
    )
    allow_empty: bool = job(False, "an input without rows is a job that ends well at once")
    limit: int | None = job(None, "use only the first N rows", ge=1)
    reuse: str | None = job(None, "an earlier output; rows with the same text are copied from it")
    task_params: dict[str, Any] = job({}, "more options for the task, as JSON")
    trust_remote_code: bool = job(False, "let the model run its own code (read it first)")
    allow_pickle: bool = job(False, "allow weights that are not safetensors")
    error_threshold: float = run(1.0, "share of error rows above which the job fails", ge=0, le=1)
    priority: int = run(0, "jobs with a higher priority go first, -100 to 100", ge=-100, le=100)
    on_finish: str | None = run(None, "command to run, or URL to POST to, when the job ends")
    wait_for: str | None = run(
        None, "object that must exist before the job starts, e.g. an input's _SUCCESS"
    )
    wait_for_timeout_s: float = setting(86_400, "maximum wait for --wait-for", gt=0)
    give_up_after: str = run(
        "30m",
        "maximum wait for a store that is away, refuses or is full: seconds, or 10m, 4h",
        pattern=r"^\d+(\.\d+)?[smhd]?$",
    )
    max_attempts: int = run(4, "failed attempts without progress before a chunk is parked", ge=1)
    price_per_hour: float | None = run(None, "price of one worker-hour, for estimates", ge=0)
    deadline: str | None = run(None, "when the job should be done: 06:00, or 2026-11-24T06:00")
    completion_window: str | None = run(None, "the deadline as a time after submission: 90m, 4h")

    # -- workers
    workers: int | None = run(
        None,
        "worker processes on this machine; default: one per GPU, or per core (per --threads cores)",
        ge=1,
        le=1024,
    )
    device: str = run("auto", "auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    threads: int | None = run(
        None,
        "threads of a CPU worker: batches that share one model; default: its share of the cores",
        ge=1,
        le=1024,
    )
    grace_s: float = setting(30, "time a worker may take to finish its chunk after SIGTERM", ge=0)
    lease_s: float = setting(30, "time after which a lease without a heartbeat expires", gt=0)
    batch_timeout_s: float = setting(600, "maximum time for one batch", gt=0)
    load_timeout_s: float = setting(
        3600, "maximum time for loading a model, its download included", gt=0
    )
    model_cache: str | None = setting(None, "folder for models downloaded from s3://")
    preload: bool | None = setting(
        None,
        "import torch when a worker starts, not at its first chunk; default: in run, resume and retry",
    )
    traces: bool = setting(True, "write the spans of each attempt to _traces/")
    profiles: bool = setting(True, "write a profile of each chunk, which headrace drift compares")
    worker_name: str | None = setting(None, "name of the worker; set by the fleet")
    fault: str | None = setting(None, "fault injection for tests, e.g. kill:committed:3")

    # -- scaling
    listen: str | None = setting(
        None, "HOST:PORT where the controller serves health, /scale and /metrics"
    )
    controller_url: str | None = setting(
        None, "controller that sets the number of workers, e.g. http://host:8080"
    )
    health: str | None = setting(
        None, "HOST:PORT where the fleet serves /livez, /readyz, /status and /metrics"
    )
    min_workers: int = setting(0, "minimum workers, kept even without work", ge=0)
    max_workers: int | None = setting(
        None, "maximum workers per queue; default: as many as its hosts have slots", ge=1
    )
    startup_s: float = setting(60, "time to start a worker and load its model, for planning", ge=0)
    cooldown_s: float = setting(120, "time without work before a worker is stopped", ge=0)
    window_s: float = setting(3600, "target time for a job without a deadline", gt=0)
    budget_per_hour: float | None = setting(
        None, "maximum cost per hour of a queue's workers", ge=0
    )

    # -- gateway
    gateway_store: str | None = setting(
        None,
        "folder or URI with the gateway's keys, files and batches; default: in the state folder",
    )
    gateway_listen: str = setting("127.0.0.1:8300", "HOST:PORT where the gateway listens")
    gateway_models: CommaList = setting(
        (), "models that requests may name, NAME=ADDRESS; others are names of the registry"
    )
    gateway_oidc_issuer: str | None = setting(
        None, "issuer of tokens that the gateway takes beside keys: an OpenID provider's https URL"
    )
    gateway_oidc_audience: str | None = setting(
        None, "audience that a token must be for; required with an issuer"
    )
    gateway_oidc_jwks_url: str | None = setting(
        None, "address of the issuer's keys; default: what its openid-configuration says"
    )
    gateway_oidc_scopes_claim: str = setting("scope", "claim with the scopes of a token")
    gateway_oidc_scopes: CommaList = setting((), "scopes of a token without that claim")
    gateway_oidc_prefixes_claim: str = setting(
        "headrace_prefixes", "claim with the URI prefixes that its jobs may read and write"
    )
    gateway_oidc_quota_tokens: int | None = setting(
        None, "most tokens in batches of a person that have not ended", ge=1
    )
    serve_listen: str = setting(
        "127.0.0.1:8310", "HOST:PORT where headrace-worker serve answers requests"
    )
    gateway_file_bytes: int = setting(209_715_200, "largest upload to the gateway, in bytes", ge=1)

    # -- object store
    s3_endpoint_url: str | None = store(None, "S3 endpoint, if it is not AWS")
    s3_region: str | None = store(None, "S3 region")
    s3_path_style: bool | None = store(
        None,
        "put the bucket in the path; default: on when an endpoint is set",
        flag="--s3-path-style/--s3-virtual-host",
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = store(
        None, "server-side encryption: AES256 or aws:kms"
    )
    s3_requester_pays: bool = store(
        False, "pay for the requests to a bucket whose owner asks for it"
    )
    s3_sse_kms_key_id: str | None = store(None, "key id for aws:kms")
    storage_timeout_s: float = setting(60, "maximum wait for one response of the store", gt=0)
    storage_attempts: int = setting(6, "attempts per call of the store", ge=1)

    # -- what people see
    label_jobs: CommaList = setting((), "job ids that get their own series in the metrics")
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", "auto, json or text; auto: text at a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "lowest level to log: debug, info, warning or error"
    )


def declared_settings() -> dict[str, Setting]:
    """The settings by name, in order."""
    return {k: v for k, v in vars(SettingFields).items() if isinstance(v, Setting)}


def setting_types(**names: Any) -> dict[str, Any]:
    """The type of each setting; `names` says what `SecretStr` and `CommaList` are to be."""
    return get_type_hints(SettingFields, localns=names, include_extras=True)
