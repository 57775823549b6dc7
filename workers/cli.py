"""The door `headrace-worker`. Heavy modules are imported by the commands, never here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import ExitCode, HeadraceError

app = typer.Typer(
    name="headrace-worker",
    help="Serve a queue: tokenize, run batched inference, write parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Broker = Annotated[
    str | None, typer.Option("--broker", help="Redis: redis://, rediss:// or redis+socket://")
]


@app.callback()
def _doors() -> None:
    """Keeps `start` a word of its own while it is the only one."""


@app.command()
def start(
    broker: Broker = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, or a list such as cuda:0,cuda:1")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="the queue to serve")] = None,
    workers: Annotated[
        int | None, typer.Option(help="worker processes; default: one a GPU, or one a core")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="threads of one CPU worker")] = None,
    grace_s: Annotated[
        float | None, typer.Option(help="how long a drain may finish the chunk in hand")
    ] = None,
    lease_s: Annotated[
        float | None, typer.Option(help="life of a lease without a heartbeat")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or text")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
) -> None:
    """Serve a queue with one process a device until SIGTERM, which drains."""
    from workers.start import start_fleet

    flags: dict[str, Any] = {
        "broker_url": broker,
        "device": device,
        "queue": queue,
        "workers": workers,
        "threads": threads,
        "grace_s": grace_s,
        "lease_s": lease_s,
        "log_format": log_format,
        "log_level": log_level,
    }
    raise typer.Exit(start_fleet(flags))


@app.command("train-demo", hidden=True)
def train_demo(corpus: Path, folder: Path) -> None:
    """Train the demo's classifier on a labelled Parquet file (columns text and label)."""
    from workers.demo_model import train_on_terminal

    train_on_terminal(folder, corpus)


def main() -> None:
    """Run the door; an error of ours is one line and its own exit code."""
    try:
        app()
    except HeadraceError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
