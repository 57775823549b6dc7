"""The entry point `headrace-worker`. Heavy modules are imported by the commands, never here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.process.entrypoint import run_cli
from headrace.process.fast_imports import fast_imports
from headrace.process.setting_options import parameters_of, with_settings
from headrace.process.version_option import Version

app = typer.Typer(
    name="headrace-worker",
    help="Serve a queue: tokenize text, run batched inference, write parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(version: Version = False) -> None:
    """Serve a queue: tokenize text, run batched inference, write parts."""


_BOTH = ("device", "threads", "grace_s", "lease_s", "health", "log_format", "log_level")
_FLAGS = {"broker_url": "--broker", "controller_url": "--controller", "min_workers": "--min"}


@app.command()
@with_settings(parameters_of(("broker_url", "queue", "workers", *_BOTH), _FLAGS))
def start(*, flags: dict[str, Any]) -> None:
    """Serve a queue with one process per device. SIGTERM drains and stops it."""
    with fast_imports():
        from workers.fleet.start import start_fleet

    raise typer.Exit(start_fleet(flags))


@app.command()
@with_settings(parameters_of(("broker_url", "controller_url", "min_workers", *_BOTH), _FLAGS))
def fleet(
    most: Annotated[
        str | None,
        typer.Option("--max", help="maximum workers; auto: one per GPU, or one per core"),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="queue to serve; repeat it for several, workers move between them"),
    ] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Serve a queue with as many workers as the controller asks for."""
    with fast_imports():
        from workers.fleet.start import start_fleet

    more = {
        "max_workers": None if most in (None, "auto") else most,
        "queues": ",".join(queue) if queue else None,
    }
    raise typer.Exit(start_fleet({**flags, **more}, follows=True))


_JOB = ("task", "model", "revision", "dtype", "max_length", "batch_tokens")


@app.command()
@with_settings(
    parameters_of(
        (*_JOB, "device", "threads", "serve_listen", "log_format", "log_level"),
        {"serve_listen": "--listen"},
    )
)
def serve(*, flags: dict[str, Any]) -> None:
    """Serve one model over HTTP: /v1/classify, /v1/embeddings or /v1/ner. No queue, no Redis."""
    from workers.online.serve import become_the_server

    become_the_server(flags)


@app.command("check-precision")
@with_settings(parameters_of(("device", "threads", "log_level")))
def check_precision(*, flags: dict[str, Any]) -> None:
    """Compare a precision with float32 on rows from standard input; used by headrace itself.

    To run the check by hand, use headrace plan --check-precision.
    """
    from workers.precision.check import become_the_check

    become_the_check(flags)


@app.command("train-writer")
def train_writer(
    corpus: Annotated[Path, typer.Argument(help="Parquet file with text and entry")],
    model: Annotated[Path, typer.Argument(help="folder for the model")],
) -> None:
    """Train the small model of headrace demo --generate; used by headrace itself."""
    from workers.demo.writer import pairs_in, train_writer

    train_writer(pairs_in(corpus, "text", "entry"), model, say=partial(print, flush=True))


def main() -> None:
    """What the console script calls."""
    run_cli(app)
