"""The options of run, submit and plan, declared once; each has a setting of the same name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

_JOB, _RUN, _STORE = "The job", "How it is run", "Object store"


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def job_options(
    *,
    task: Annotated[
        str | None,
        _option(
            _JOB,
            "text-classification (default), token-classification, feature-extraction, fake, or a plug-in's",
        ),
    ] = None,
    model: Annotated[str | None, _option(_JOB, "local folder, hub id, or s3:// folder")] = None,
    revision: Annotated[str | None, _option(_JOB, "commit of a hub model (40 hex digits)")] = None,
    text_column: Annotated[
        str | None, _option(_JOB, "column that holds the text; default: text")
    ] = None,
    text_pair_column: Annotated[
        str | None, _option(_JOB, "column with the second text of a pair")
    ] = None,
    id_column: Annotated[
        str | None, _option(_JOB, "column that names a row; default: its number in its file")
    ] = None,
    columns: Annotated[
        str | None, _option(_JOB, "columns carried through, e.g. stars,product")
    ] = None,
    max_length: Annotated[
        int | None, _option(_JOB, "tokens a row may have; default: the model's limit")
    ] = None,
    dtype: Annotated[str | None, _option(_JOB, "auto, float32, bfloat16, float16 or int8")] = None,
    precision_floor: Annotated[
        float | None,
        _option(_JOB, "int8: share of float32's labels, or cosine, to be kept; default 0.99"),
    ] = None,
    precision_rows: Annotated[
        int | None, _option(_JOB, "rows that precision is checked on; default 1000")
    ] = None,
    accept_precision: Annotated[
        bool | None,
        _option(
            _JOB, "int8: go on under the floor, or where nobody could check", "--accept-precision"
        ),
    ] = None,
    limit: Annotated[int | None, _option(_JOB, "only the first N rows")] = None,
    reuse: Annotated[
        str | None,
        _option(_JOB, "an earlier output: its rows are copied where the text is the same"),
    ] = None,
    scores: Annotated[
        bool | None,
        _option(_JOB, "text-classification: a score for every label too", "--scores/--no-scores"),
    ] = None,
    multi_label: Annotated[
        bool | None,
        _option(
            _JOB, "text-classification: labels are independent", "--multi-label/--single-label"
        ),
    ] = None,
    aggregation: Annotated[
        str | None, _option(_JOB, "token-classification: none, simple, first, average or max")
    ] = None,
    pooling: Annotated[str | None, _option(_JOB, "feature-extraction: auto, mean or cls")] = None,
    normalize: Annotated[
        bool | None,
        _option(_JOB, "feature-extraction: vectors of length 1", "--normalize/--no-normalize"),
    ] = None,
    task_params: Annotated[str | None, _option(_JOB, "further options of a task, as JSON")] = None,
    trust_remote_code: Annotated[
        bool | None,
        _option(_JOB, "let a model run its own code (read it first)", "--trust-remote-code"),
    ] = None,
    allow_pickle: Annotated[
        bool | None, _option(_JOB, "load weights that are not safetensors", "--allow-pickle")
    ] = None,
    workers: Annotated[
        int | None, _option(_RUN, "worker processes; default: one a GPU, or one a core")
    ] = None,
    device: Annotated[
        str | None, _option(_RUN, "auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    ] = None,
    queue: Annotated[str | None, _option(_RUN, "queue of the job; default: default")] = None,
    batch_tokens: Annotated[int | None, _option(_RUN, "token budget of a batch")] = None,
    chunk_rows: Annotated[
        int | None, _option(_RUN, "rows of a chunk; default: about 30 s of work")
    ] = None,
    chunk_bytes: Annotated[int | None, _option(_RUN, "bytes of text of a chunk")] = None,
    error_threshold: Annotated[
        float | None, _option(_RUN, "share of error rows above which the job fails; default 1.0")
    ] = None,
    max_attempts: Annotated[
        int | None, _option(_RUN, "failures without progress before a chunk is parked")
    ] = None,
    priority: Annotated[int | None, _option(_RUN, "higher goes first, -100 to 100")] = None,
    deadline: Annotated[
        str | None, _option(_RUN, "when it should be done: 06:00, or 2026-11-24T06:00")
    ] = None,
    completion_window: Annotated[
        str | None, _option(_RUN, "the same, counted from now: 90m, 4h")
    ] = None,
    price_per_hour: Annotated[
        float | None, _option(_RUN, "price of one worker hour, for estimates")
    ] = None,
    on_finish: Annotated[
        str | None, _option(_RUN, "command, or URL that gets a POST, told how the job ended")
    ] = None,
    wait_for: Annotated[
        str | None,
        _option(_RUN, "object that must exist before the job starts, e.g. an input's _SUCCESS"),
    ] = None,
    registry: Annotated[
        str | None, _option(_RUN, "folder or URI that remembers which outputs have jobs")
    ] = None,
    s3_endpoint_url: Annotated[str | None, _option(_STORE, "S3 endpoint that is not AWS")] = None,
    s3_region: Annotated[str | None, _option(_STORE, "S3 region")] = None,
    s3_path_style: Annotated[
        bool | None, _option(_STORE, "bucket in the path", "--s3-path-style/--s3-virtual-host")
    ] = None,
    s3_sse: Annotated[
        str | None, _option(_STORE, "server-side encryption: AES256 or aws:kms")
    ] = None,
    s3_sse_kms_key_id: Annotated[str | None, _option(_STORE, "key for aws:kms")] = None,
) -> None:
    """Only its signature counts: `with_job_options` gives it to a command."""


def with_job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the job's options added; it gets those that were given as `flags`."""
    own = inspect.signature(command)
    shared = inspect.signature(job_options)

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flags = {name: kwargs.pop(name) for name in shared.parameters}
        return command(*args, flags={k: v for k, v in flags.items() if v is not None}, **kwargs)

    hints = get_type_hints(command, include_extras=True) | get_type_hints(
        job_options, include_extras=True
    )
    del hints["flags"]
    kept = [p for name, p in own.parameters.items() if name != "flags"]
    parameters = [p.replace(annotation=hints[p.name]) for p in [*kept, *shared.parameters.values()]]
    wrapped.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = hints
    return wrapped


def _named(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, show_default=False)


def _given(text: str) -> Any:
    return typer.Argument(help=text, show_default=False)


Inputs = Annotated[
    list[str], _given("files, folders, globs or s3://bucket/prefix; {date} is today")
]
Output = Annotated[str, _named("folder or s3://bucket/prefix for the results", "--output", "-o")]
AnyOutput = Annotated[str | None, _named("an output to try as well", "--output", "-o")]
OutputAt = Annotated[str, _given("the output of a job")]
Where = Annotated[str, _given("a job's id (or its first digits), or its output")]
AnyJob = Annotated[str | None, _given("a job or its output; default: all jobs")]
Broker = Annotated[str | None, _named("Redis: redis://, rediss:// or redis+socket://", "--broker")]
Registry = Annotated[
    str | None, _named("folder or URI that remembers which outputs have jobs", "--registry")
]
Workers = Annotated[
    int | None, _named("worker processes; default: one a GPU, or one a core", "--workers")
]
Json = Annotated[bool, _named("for machines: one JSON object on standard output", "--json")]
Wait = Annotated[bool, _named("follow the job to its end", "--wait")]
Folder = Annotated[
    Path | None, _named("where the demo keeps its corpus, model and results", "--folder")
]
