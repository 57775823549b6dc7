"""The options of run, submit and plan, declared once; each has a setting of the same name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from headrace.tasks.catalog import BUILT_IN
from producers.task_options import task_options

_JOB, _RUN, _STORE = "The job", "How it is run", "Object store"


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def job_options(
    *,
    task: Annotated[
        str | None,
        _option(
            _JOB,
            "text-classification (default), token-classification, feature-extraction, fake, or a plug-in's name",
        ),
    ] = None,
    model: Annotated[str | None, _option(_JOB, "local folder, hub id, or s3:// folder")] = None,
    revision: Annotated[str | None, _option(_JOB, "commit of a hub model (40 hex digits)")] = None,
    text_column: Annotated[str | None, _option(_JOB, "column with the text; default: text")] = None,
    text_pair_column: Annotated[
        str | None, _option(_JOB, "column with the second text of a pair")
    ] = None,
    id_column: Annotated[
        str | None, _option(_JOB, "column with row ids; default: the row's number in its file")
    ] = None,
    columns: Annotated[
        str | None, _option(_JOB, "input columns to copy to the output, e.g. stars,product")
    ] = None,
    max_length: Annotated[
        int | None, _option(_JOB, "maximum tokens per row; default: the model's limit")
    ] = None,
    dtype: Annotated[
        str | None, _option(_JOB, "precision: auto, float32, bfloat16, float16 or int8")
    ] = None,
    precision_floor: Annotated[
        float | None,
        _option(
            _JOB,
            "int8: minimum agreement with float32 (share of equal labels, or cosine); default 0.99",
        ),
    ] = None,
    precision_rows: Annotated[
        int | None, _option(_JOB, "rows of the corpus used to check precision; default 1000")
    ] = None,
    accept_precision: Annotated[
        bool | None,
        _option(
            _JOB,
            "int8: run even if agreement is below the floor or could not be checked",
            "--accept-precision",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        _option(_JOB, "read only these files of an input folder, e.g. **/*.c000; by name alone"),
    ] = None,
    limit: Annotated[int | None, _option(_JOB, "use only the first N rows")] = None,
    reuse: Annotated[
        str | None,
        _option(_JOB, "an earlier output; rows with the same text are copied from it"),
    ] = None,
    task_params: Annotated[str | None, _option(_JOB, "more options for the task, as JSON")] = None,
    trust_remote_code: Annotated[
        bool | None,
        _option(_JOB, "let the model run its own code (read it first)", "--trust-remote-code"),
    ] = None,
    allow_pickle: Annotated[
        bool | None, _option(_JOB, "allow weights that are not safetensors", "--allow-pickle")
    ] = None,
    workers: Annotated[
        int | None,
        _option(_RUN, "worker processes on this machine; default: one per GPU, or one per core"),
    ] = None,
    device: Annotated[
        str | None, _option(_RUN, "auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    ] = None,
    queue: Annotated[str | None, _option(_RUN, "queue for the job; default: default")] = None,
    batch_tokens: Annotated[
        int | None,
        _option(_RUN, "maximum tokens per batch; default: found by a short search on the device"),
    ] = None,
    chunk_rows: Annotated[
        int | None, _option(_RUN, "rows per chunk; default: about 30 s of work")
    ] = None,
    chunk_bytes: Annotated[int | None, _option(_RUN, "bytes of text per chunk")] = None,
    error_threshold: Annotated[
        float | None, _option(_RUN, "share of error rows above which the job fails; default 1.0")
    ] = None,
    max_attempts: Annotated[
        int | None,
        _option(_RUN, "failed attempts without progress before a chunk is parked; default 4"),
    ] = None,
    priority: Annotated[
        int | None, _option(_RUN, "jobs with a higher priority go first, -100 to 100")
    ] = None,
    deadline: Annotated[
        str | None, _option(_RUN, "when the job should be done: 06:00, or 2026-11-24T06:00")
    ] = None,
    completion_window: Annotated[
        str | None, _option(_RUN, "the deadline as a time after submission: 90m, 4h")
    ] = None,
    price_per_hour: Annotated[
        float | None, _option(_RUN, "price of one worker-hour, for estimates")
    ] = None,
    on_finish: Annotated[
        str | None, _option(_RUN, "command to run, or URL to POST to, when the job ends")
    ] = None,
    wait_for: Annotated[
        str | None,
        _option(_RUN, "object that must exist before the job starts, e.g. an input's _SUCCESS"),
    ] = None,
    registry: Annotated[
        str | None, _option(_RUN, "folder or URI with the list of outputs that have jobs")
    ] = None,
    s3_endpoint_url: Annotated[str | None, _option(_STORE, "S3 endpoint, if it is not AWS")] = None,
    s3_region: Annotated[str | None, _option(_STORE, "S3 region")] = None,
    s3_path_style: Annotated[
        bool | None,
        _option(
            _STORE,
            "put the bucket in the path; default: on when an endpoint is set",
            "--s3-path-style/--s3-virtual-host",
        ),
    ] = None,
    s3_sse: Annotated[
        str | None, _option(_STORE, "server-side encryption: AES256 or aws:kms")
    ] = None,
    s3_sse_kms_key_id: Annotated[str | None, _option(_STORE, "key id for aws:kms")] = None,
) -> None:
    """Only its signature counts: `with_job_options` gives it to a command."""


def with_job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the job's options and those of the tasks; it gets the given ones as `flags`."""
    own = inspect.signature(command)
    shared = list(inspect.signature(job_options).parameters.values())
    at = [it.name for it in shared].index("task_params")
    shared[at:at] = task_options(BUILT_IN.values())

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        flags = {it.name: kwargs.pop(it.name) for it in shared}
        return command(*args, flags={k: v for k, v in flags.items() if v is not None}, **kwargs)

    hints = get_type_hints(command, include_extras=True) | get_type_hints(
        job_options, include_extras=True
    )
    kept = [
        it.replace(annotation=hints.get(it.name, it.annotation))
        for it in [*own.parameters.values(), *shared]
        if it.name != "flags"
    ]
    wrapped.__signature__ = own.replace(parameters=kept)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {it.name: it.annotation for it in kept}
    return wrapped


def _named(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, show_default=False)


def _given(text: str) -> Any:
    return typer.Argument(help=text, show_default=False)


Inputs = Annotated[
    list[str], _given("files, folders, globs or s3://bucket/prefix; {date} becomes today's date")
]
Output = Annotated[str, _named("folder or s3://bucket/prefix for the results", "--output", "-o")]
AnyOutput = Annotated[str | None, _named("an output whose store is checked too", "--output", "-o")]
OutputAt = Annotated[str, _given("output of the job")]
Where = Annotated[str, _given("job id (or its first digits), or the job's output")]
AnyJob = Annotated[str | None, _given("job id or output; default: list all jobs")]
Broker = Annotated[
    str | None, _named("Redis URL: redis://, rediss:// or redis+socket://", "--broker")
]
Registry = Annotated[
    str | None, _named("folder or URI with the list of outputs that have jobs", "--registry")
]
Workers = Annotated[
    int | None,
    _named("worker processes on this machine; default: one per GPU, or one per core", "--workers"),
]
Json = Annotated[bool, _named("print one JSON object on standard output", "--json")]
Wait = Annotated[bool, _named("wait until the job ends", "--wait")]
Folder = Annotated[
    Path | None, _named("folder for the demo's corpus, model and results", "--folder")
]
