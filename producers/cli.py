"""The door `headrace`. Each command imports what it needs: `--help` answers at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.process.entrypoint import open_door
from producers.cli_options import (
    AnyJob,
    AnyOutput,
    Broker,
    Folder,
    Inputs,
    Json,
    Output,
    OutputAt,
    Registry,
    Wait,
    Where,
    Workers,
    with_job_options,
)

app = typer.Typer(
    name="headrace",
    help="Batch inference over text: a corpus in, every row scored exactly once, Parquet out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@with_job_options
def run(
    inputs: Inputs,
    output: Output,
    broker: Broker = None,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Score a corpus on this machine, from start to end, with workers of its own."""
    from producers.commands.early_start import run_from_cold

    raise typer.Exit(run_from_cold(inputs, output, {**flags, "broker_url": broker}, as_json=json))


@app.command()
@with_job_options
def submit(
    inputs: Inputs,
    output: Output,
    broker: Broker = None,
    wait: Wait = False,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Queue a corpus for a fleet; prints the job's id. Without --wait a controller must run."""
    from producers.commands.submit import submit_job

    raise typer.Exit(
        submit_job(inputs, output, {**flags, "broker_url": broker}, wait=wait, as_json=json)
    )


@app.command()
@with_job_options
def plan(
    inputs: Inputs,
    output: AnyOutput = None,
    check_precision: Annotated[
        bool,
        typer.Option(
            "--check-precision", help="compare --dtype with float32 on rows of the corpus"
        ),
    ] = False,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Say what a job would do: files, rows, tokens, chunks, time. Queues nothing, writes nothing."""
    from producers.commands.plan import plan_job

    raise typer.Exit(plan_job(inputs, output, flags, as_json=json, with_precision=check_precision))


@app.command()
def status(
    where: AnyJob = None,
    workers: Annotated[
        bool,
        typer.Option(
            "--workers", help="the workers instead: device, model, chunk in hand, last progress"
        ),
    ] = False,
    broker: Broker = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """How a job stands: rows, chunks, errors, parked chunks; or what the workers do."""
    from producers.commands.status import list_jobs, list_workers, show_status

    flags = {"broker_url": broker, "registry": registry}
    if workers:
        raise typer.Exit(list_workers(flags, as_json=json))
    raise typer.Exit(
        list_jobs(flags, as_json=json) if where is None else show_status(where, flags, as_json=json)
    )


@app.command("list")
def list_(broker: Broker = None, registry: Registry = None, json: Json = False) -> None:
    """The jobs the registry knows, newest first."""
    from producers.commands.status import list_jobs

    raise typer.Exit(list_jobs({"broker_url": broker, "registry": registry}, as_json=json))


@app.command()
def watch(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Follow a job submitted elsewhere until it ends."""
    from producers.commands.status import watch_job

    raise typer.Exit(watch_job(where, {"broker_url": broker, "registry": registry}))


@app.command()
def cancel(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Stop a job between two batches; what is committed stays, `resume` goes on from there."""
    from producers.commands.cancel import cancel_job

    raise typer.Exit(cancel_job(where, {"broker_url": broker, "registry": registry}))


@app.command()
def pause(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Let a job rest between two batches until `resume`."""
    from producers.commands.cancel import pause_job

    raise typer.Exit(pause_job(where, {"broker_url": broker, "registry": registry}))


@app.command()
def resume(
    output: OutputAt,
    broker: Broker = None,
    workers: Workers = None,
    registry: Registry = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Go on with a job that was cancelled, paused or interrupted: only what is missing is computed."""
    from producers.commands.resume import resume_job

    flags = {"broker_url": broker, "workers": workers, "registry": registry}
    raise typer.Exit(resume_job(output, flags, wait=wait, as_json=json))


@app.command()
def retry(
    output: OutputAt,
    parked: Annotated[bool, typer.Option("--parked", help="the chunks that were parked")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="the error rows, into --output")] = False,
    new: Annotated[
        str | None, typer.Option("--output", "-o", help="with --errors: where to")
    ] = None,
    broker: Broker = None,
    workers: Workers = None,
    registry: Registry = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Publish parked chunks again, or compute error rows again into another output.

    Parts that are there are never replaced: with --errors the ok rows are copied to the new output.
    """
    from producers.commands.resume import retry_errors, retry_parked

    flags = {"broker_url": broker, "workers": workers, "registry": registry}
    if errors:
        raise typer.Exit(retry_errors(output, new, flags, wait=wait, as_json=json))
    raise typer.Exit(retry_parked(output, flags, parked=parked, wait=wait, as_json=json))


@app.command()
def clean(
    output: OutputAt,
    force: Annotated[bool, typer.Option("--force", help="nobody works on it, I am sure")] = False,
) -> None:
    """Remove what unfinished writes left in an output whose job has ended."""
    from producers.commands.cancel import clean_output

    raise typer.Exit(clean_output(output, {}, force=force))


@app.command()
def verify(output: OutputAt, json: Json = False) -> None:
    """Recount a job from its input and output alone: every row there once, in order, unchanged."""
    from producers.commands.inspect import verify_output

    raise typer.Exit(verify_output(output, as_json=json))


@app.command()
def explain(
    output: OutputAt,
    row_id: Annotated[str, typer.Option("--id", help="the row's id", show_default=False)],
    jaeger: Annotated[str | None, typer.Option(help="a Jaeger's address, for links")] = None,
    json: Json = False,
) -> None:
    """What happened to one row: part, chunk, attempts, stages, error, trace."""
    from producers.commands.inspect import explain_row

    raise typer.Exit(explain_row(output, row_id, jaeger, as_json=json))


@app.command()
def traces(
    output: OutputAt,
    send: Annotated[str, typer.Option("--send", help="OTLP/HTTP, e.g. http://localhost:4318")],
) -> None:
    """Send the spans kept in an output to a collector, later, under the ids they have."""
    from producers.commands.inspect import send_to_collector

    raise typer.Exit(send_to_collector(output, send))


@app.command()
def report(
    output: OutputAt,
    to: Annotated[str | None, typer.Option(help="a file; default: report.html in it")] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="texts of error rows too")
    ] = False,
    jaeger: Annotated[str | None, typer.Option(help="a Jaeger's address, for links")] = None,
) -> None:
    """The job as one HTML page that opens from disk, with no network."""
    from producers.commands.inspect import write_report

    raise typer.Exit(write_report(output, to, jaeger, with_texts=with_texts))


@app.command()
def controller(
    broker: Broker = None,
    registry: Registry = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT for health, /scale and /metrics")
    ] = None,
    max_workers: Annotated[
        int | None, typer.Option(help="most workers of a queue; default: what its hosts can hold")
    ] = None,
) -> None:
    """Reconcile and finish jobs submitted without --wait; runs until SIGTERM."""
    from producers.commands.controller import run_controller

    flags = {"broker_url": broker, "registry": registry, "listen": listen}
    raise typer.Exit(run_controller({**flags, "max_workers": max_workers}))


@app.command()
def doctor(output: AnyOutput = None, broker: Broker = None, json: Json = False) -> None:
    """Versions, broker, devices, store, and where packages were loaded from; secrets masked."""
    from producers.commands.inspect import run_doctor

    raise typer.Exit(run_doctor(output, {"broker_url": broker}, as_json=json))


@app.command()
def demo(folder: Folder = None, workers: Workers = None) -> None:
    """A corpus of 20,000 reviews, a small classifier trained here, and the real job on both."""
    from producers.commands.demo import run_demo

    raise typer.Exit(run_demo(folder, workers))


def main() -> None:
    """What the console script calls."""
    open_door(app)
