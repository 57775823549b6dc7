"""The door `headrace-worker`. Heavy modules are imported by the commands, never here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.process.entrypoint import run_cli
from headrace.process.fast_imports import fast_imports

app = typer.Typer(
    name="headrace-worker",
    help="Serve a queue: tokenize text, run batched inference, write parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Broker = Annotated[
    str | None, typer.Option("--broker", help="Redis URL: redis://, rediss:// or redis+socket://")
]


Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, or a list such as cuda:0,cuda:1")
]
Queue = Annotated[str | None, typer.Option(help="queue to serve")]
Threads = Annotated[int | None, typer.Option(help="threads per CPU worker")]
Grace = Annotated[
    float | None, typer.Option(help="time a worker may take to finish its chunk after SIGTERM")
]
Lease = Annotated[
    float | None, typer.Option(help="time after which a lease without a heartbeat expires")
]
Health = Annotated[
    str | None,
    typer.Option(help="HOST:PORT where the fleet serves /livez, /readyz, /status and /metrics"),
]
LogFormat = Annotated[
    str | None, typer.Option(help="auto, json or text; auto: text at a terminal, json elsewhere")
]
LogLevel = Annotated[
    str | None, typer.Option(help="lowest level to log: debug, info, warning or error")
]


@app.command()
def start(
    broker: Broker = None,
    device: Device = None,
    queue: Queue = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="worker processes on this machine; default: one per GPU, or one per core"
        ),
    ] = None,
    threads: Threads = None,
    grace_s: Grace = None,
    lease_s: Lease = None,
    health: Health = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Serve a queue with one process per device. SIGTERM drains and stops it."""
    with fast_imports():
        from workers.fleet.start import start_fleet

    flags: dict[str, Any] = {
        "broker_url": broker,
        "device": device,
        "queue": queue,
        "workers": workers,
        "threads": threads,
        "grace_s": grace_s,
        "lease_s": lease_s,
        "health": health,
        "log_format": log_format,
        "log_level": log_level,
    }
    raise typer.Exit(start_fleet(flags))


@app.command()
def fleet(
    broker: Broker = None,
    controller: Annotated[
        str | None,
        typer.Option(help="controller that sets the number of workers, e.g. http://host:8080"),
    ] = None,
    least: Annotated[
        int | None, typer.Option("--min", help="minimum workers, kept even without work; default 0")
    ] = None,
    most: Annotated[
        str | None,
        typer.Option("--max", help="maximum workers; auto: one per GPU, or one per core"),
    ] = None,
    device: Device = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="queue to serve; repeat it for several, workers move between them"),
    ] = None,
    threads: Threads = None,
    grace_s: Grace = None,
    lease_s: Lease = None,
    health: Health = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Serve a queue with as many workers as the controller asks for."""
    with fast_imports():
        from workers.fleet.start import start_fleet

    flags: dict[str, Any] = {
        "broker_url": broker,
        "controller_url": controller,
        "min_workers": least,
        "max_workers": None if most in (None, "auto") else most,
        "device": device,
        "queues": ",".join(queue) if queue else None,
        "threads": threads,
        "grace_s": grace_s,
        "lease_s": lease_s,
        "health": health,
        "log_format": log_format,
        "log_level": log_level,
    }
    raise typer.Exit(start_fleet(flags, follows=True))


@app.command("check-precision")
def check_precision(
    device: Device = None,
    threads: Threads = None,
    log_level: LogLevel = None,
) -> None:
    """Compare a precision with float32 on rows from standard input; used by headrace itself.

    To run the check by hand, use headrace plan --check-precision.
    """
    from workers.precision.check import become_the_check

    become_the_check({"device": device, "threads": threads, "log_level": log_level})


@app.command("train-demo", hidden=True)
def train_demo(corpus: Path, folder: Path) -> None:
    """Train the demo's classifier on a labelled Parquet file (columns text and label)."""
    from workers.training.text_classifier import train_on_terminal

    train_on_terminal(folder, corpus)


def main() -> None:
    """What the console script calls."""
    run_cli(app)
