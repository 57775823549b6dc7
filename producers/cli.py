"""The door `headrace`. Each command imports what it needs: `--help` answers at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.process.entrypoint import run_cli
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
from producers.task_options import JobCommand

app = typer.Typer(
    name="headrace",
    help="Batch inference over text: every row of a corpus is scored exactly once, into Parquet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(cls=JobCommand)
@with_job_options
def run(
    inputs: Inputs,
    output: Output,
    broker: Broker = None,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Score a corpus on this machine: start workers, run the job, stop the workers."""
    from producers.commands.early_start import run_from_cold

    raise typer.Exit(run_from_cold(inputs, output, {**flags, "broker_url": broker}, as_json=json))


@app.command(cls=JobCommand)
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
    """Queue a corpus for a fleet and print the job id. Needs a running controller, or --wait."""
    from producers.commands.submit import submit_job

    raise typer.Exit(
        submit_job(inputs, output, {**flags, "broker_url": broker}, wait=wait, as_json=json)
    )


@app.command(cls=JobCommand)
@with_job_options
def plan(
    inputs: Inputs,
    output: AnyOutput = None,
    check_precision: Annotated[
        bool,
        typer.Option(
            "--check-precision", help="compare --dtype with float32 on a sample of the corpus"
        ),
    ] = False,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Estimate a job: files, rows, tokens, chunks, time. Queues nothing and writes nothing."""
    from producers.commands.plan import plan_job

    raise typer.Exit(plan_job(inputs, output, flags, as_json=json, with_precision=check_precision))


@app.command()
def status(
    where: AnyJob = None,
    workers: Annotated[
        bool,
        typer.Option(
            "--workers", help="list workers instead: device, model, current chunk, last progress"
        ),
    ] = False,
    broker: Broker = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Show a job's progress: rows, chunks, errors, parked chunks. Or list the workers."""
    from producers.commands.status import list_jobs, list_workers, show_status

    flags = {"broker_url": broker, "registry": registry}
    if workers:
        raise typer.Exit(list_workers(flags, as_json=json))
    raise typer.Exit(
        list_jobs(flags, as_json=json) if where is None else show_status(where, flags, as_json=json)
    )


@app.command("list")
def list_(broker: Broker = None, registry: Registry = None, json: Json = False) -> None:
    """List the jobs in the registry, newest first."""
    from producers.commands.status import list_jobs

    raise typer.Exit(list_jobs({"broker_url": broker, "registry": registry}, as_json=json))


@app.command()
def watch(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Follow a running job until it ends."""
    from producers.commands.status import watch_job

    raise typer.Exit(watch_job(where, {"broker_url": broker, "registry": registry}))


@app.command()
def cancel(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Stop a job after the current batch. Committed parts stay; `resume` continues."""
    from producers.commands.cancel import cancel_job

    raise typer.Exit(cancel_job(where, {"broker_url": broker, "registry": registry}))


@app.command()
def pause(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Pause a job after the current batch, until `resume`."""
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
    """Continue a cancelled, paused or interrupted job. Only missing chunks are computed."""
    from producers.commands.resume import resume_job

    flags = {"broker_url": broker, "workers": workers, "registry": registry}
    raise typer.Exit(resume_job(output, flags, wait=wait, as_json=json))


@app.command()
def retry(
    output: OutputAt,
    parked: Annotated[bool, typer.Option("--parked", help="retry parked chunks")] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="retry error rows, into a new --output")
    ] = False,
    new: Annotated[
        str | None, typer.Option("--output", "-o", help="with --errors: the new output")
    ] = None,
    broker: Broker = None,
    workers: Workers = None,
    registry: Registry = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Retry parked chunks, or compute error rows again into another output.

    Existing parts are never replaced. With --errors the ok rows are copied to the new output.
    """
    from producers.commands.resume import retry_errors, retry_parked

    flags = {"broker_url": broker, "workers": workers, "registry": registry}
    if errors:
        raise typer.Exit(retry_errors(output, new, flags, wait=wait, as_json=json))
    raise typer.Exit(retry_parked(output, flags, parked=parked, wait=wait, as_json=json))


@app.command()
def clean(
    output: OutputAt,
    force: Annotated[
        bool, typer.Option("--force", help="clean even if the job has not ended")
    ] = False,
) -> None:
    """Remove temporary files of unfinished writes from the output of an ended job."""
    from producers.commands.cancel import clean_output

    raise typer.Exit(clean_output(output, {}, force=force))


@app.command()
def verify(output: OutputAt, json: Json = False) -> None:
    """Check an output against its input: every row once, in order, unchanged."""
    from producers.commands.inspect import verify_output

    raise typer.Exit(verify_output(output, as_json=json))


@app.command()
def explain(
    output: OutputAt,
    row_id: Annotated[str, typer.Option("--id", help="id of the row", show_default=False)],
    jaeger: Annotated[str | None, typer.Option(help="Jaeger address, for links")] = None,
    json: Json = False,
) -> None:
    """Explain one row: part, chunk, attempts, stages, error, trace."""
    from producers.commands.inspect import explain_row

    raise typer.Exit(explain_row(output, row_id, jaeger, as_json=json))


@app.command()
def traces(
    output: OutputAt,
    send: Annotated[
        str, typer.Option("--send", help="OTLP/HTTP address, e.g. http://localhost:4318")
    ],
) -> None:
    """Send the spans stored in an output to a collector, with their original ids."""
    from producers.commands.inspect import send_to_collector

    raise typer.Exit(send_to_collector(output, send))


@app.command()
def report(
    output: OutputAt,
    to: Annotated[
        str | None, typer.Option(help="file to write; default: report.html in the output")
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="include the texts of error rows")
    ] = False,
    jaeger: Annotated[str | None, typer.Option(help="Jaeger address, for links")] = None,
) -> None:
    """Write the job's report: one HTML page that needs no network."""
    from producers.commands.inspect import write_report

    raise typer.Exit(write_report(output, to, jaeger, with_texts=with_texts))


@app.command()
def controller(
    broker: Broker = None,
    registry: Registry = None,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT where the controller serves health, /scale and /metrics"),
    ] = None,
    max_workers: Annotated[
        int | None,
        typer.Option(help="maximum workers per queue; default: as many as its hosts have slots"),
    ] = None,
) -> None:
    """Run the controller: publish, track and finish submitted jobs, until SIGTERM."""
    from producers.commands.controller import run_controller

    flags = {"broker_url": broker, "registry": registry, "listen": listen}
    raise typer.Exit(run_controller({**flags, "max_workers": max_workers}))


@app.command()
def doctor(output: AnyOutput = None, broker: Broker = None, json: Json = False) -> None:
    """Check this installation: versions, broker, devices, store, packages. Secrets are masked."""
    from producers.commands.inspect import run_doctor

    raise typer.Exit(run_doctor(output, {"broker_url": broker}, as_json=json))


@app.command()
def demo(folder: Folder = None, workers: Workers = None) -> None:
    """Run a demo: make 20,000 reviews, train a small classifier, score them."""
    from producers.commands.demo import run_demo

    raise typer.Exit(run_demo(folder, workers))


def main() -> None:
    """What the console script calls."""
    run_cli(app)
