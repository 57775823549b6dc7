"""The entry point `headrace`. Each command imports what it needs, so that `--help` is fast."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headrace.process.entrypoint import run_cli
from headrace.process.version_option import Version
from producers.cli_gateway import keys_app, serve
from producers.cli_models import app as models_app
from producers.cli_options import (
    AnyJob,
    AnyOutput,
    Broker,
    Folder,
    GiveUpAfter,
    Inputs,
    Json,
    Listen,
    MaxWorkers,
    Output,
    OutputAt,
    Registry,
    Wait,
    Where,
    Workers,
    with_job_options,
)
from producers.cli_quality import compare, drift, evaluate, rank
from producers.cli_training import retrain, train
from producers.task_options import JobCommand

app = typer.Typer(
    name="headrace",
    help="Batch inference over text: every row of a corpus is scored exactly once, into Parquet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(version: Version = False) -> None:
    """Batch inference over text: every row of a corpus is scored exactly once, into Parquet."""


app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")


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
    challenger: Annotated[
        str | None,
        typer.Option(
            "--challenger",
            help="another model, e.g. models:/reviews@candidate, on a share of the rows",
            show_default=False,
        ),
    ] = None,
    share: Annotated[str, typer.Option("--share", help="share of the texts it gets")] = "5%",
    challenger_output: Annotated[
        str | None,
        typer.Option(
            "--challenger-output",
            help="where the challenger writes; default: OUTPUT-challenger",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Queue a corpus for a fleet and print the job id. Needs a running controller, or --wait."""
    from producers.commands.quality.challenger import read_challenge
    from producers.commands.session import open_session, with_dates
    from producers.commands.submit import submit_job

    session = open_session({**flags, "broker_url": broker}, as_json=json)
    other = f"{output.rstrip('/')}-challenger" if challenger_output is None else challenger_output
    session, inputs, (output, other) = with_dates(session, inputs, [output, other])
    challenge = None if challenger is None else read_challenge(challenger, share, other)
    raise typer.Exit(
        submit_job(
            session, inputs, output, wait=wait, on_finish="on_finish" in flags, challenge=challenge
        )
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
    from producers.commands.session import open_session, with_dates

    session = open_session(flags, as_json=json)
    session, inputs, named = with_dates(session, inputs, [] if output is None else [output])
    output = named[0] if named else None
    raise typer.Exit(plan_job(session, inputs, output, with_precision=check_precision))


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
    from producers.commands.session import open_session
    from producers.commands.status import list_jobs, list_workers, show_status

    session = open_session({"broker_url": broker, "registry": registry}, as_json=json)
    if workers:
        raise typer.Exit(list_workers(session))
    raise typer.Exit(list_jobs(session) if where is None else show_status(session, where))


@app.command("list")
def list_(broker: Broker = None, registry: Registry = None, json: Json = False) -> None:
    """List the jobs in the registry, newest first."""
    from producers.commands.session import open_session
    from producers.commands.status import list_jobs

    session = open_session({"broker_url": broker, "registry": registry}, as_json=json)
    raise typer.Exit(list_jobs(session))


@app.command()
def watch(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Follow a running job until it ends."""
    from producers.commands.session import open_session
    from producers.commands.status import watch_job

    session = open_session({"broker_url": broker, "registry": registry})
    raise typer.Exit(watch_job(session, where))


@app.command()
def cancel(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Stop a job after the current batch. Committed parts stay; `resume` continues."""
    from producers.commands.cancel import cancel_job
    from producers.commands.session import open_session

    session = open_session({"broker_url": broker, "registry": registry})
    raise typer.Exit(cancel_job(session, where))


@app.command()
def pause(where: Where, broker: Broker = None, registry: Registry = None) -> None:
    """Pause a job after the current batch, until `resume`."""
    from producers.commands.cancel import pause_job
    from producers.commands.session import open_session

    session = open_session({"broker_url": broker, "registry": registry})
    raise typer.Exit(pause_job(session, where))


@app.command()
def resume(
    output: OutputAt,
    broker: Broker = None,
    workers: Workers = None,
    registry: Registry = None,
    give_up_after: GiveUpAfter = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Continue a cancelled, paused or interrupted job. Only missing chunks are computed."""
    from producers.commands.resume import resume_job
    from producers.commands.session import open_session

    flags = {
        "broker_url": broker, "workers": workers, "registry": registry, "give_up_after": give_up_after,
    }  # fmt: skip
    raise typer.Exit(resume_job(open_session(flags, as_json=json), output, wait=wait))


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
    give_up_after: GiveUpAfter = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Retry parked chunks, or compute error rows again into another output.

    Existing parts are never replaced. With --errors the ok rows are copied to the new output.
    """
    from producers.commands.resume import retry_errors, retry_parked
    from producers.commands.session import open_session

    flags = {
        "broker_url": broker, "workers": workers, "registry": registry, "give_up_after": give_up_after,
    }  # fmt: skip
    session = open_session(flags, as_json=json)
    if errors:
        raise typer.Exit(retry_errors(session, output, new, flags, wait=wait))
    raise typer.Exit(retry_parked(session, output, parked=parked, wait=wait))


@app.command()
def clean(
    output: OutputAt,
    force: Annotated[
        bool, typer.Option("--force", help="clean even if the job has not ended")
    ] = False,
) -> None:
    """Remove temporary files of unfinished writes from the output of an ended job."""
    from producers.commands.cancel import clean_output
    from producers.commands.session import open_session

    raise typer.Exit(clean_output(open_session({}), output, force=force))


@app.command()
def verify(output: OutputAt, json: Json = False) -> None:
    """Check an output against its input: every row once, in order, unchanged."""
    from producers.commands.inspect import verify_output
    from producers.commands.session import open_session

    raise typer.Exit(verify_output(open_session({}, as_json=json), output))


app.command()(train)
app.command()(retrain)
app.command()(evaluate)
app.command()(compare)
app.command()(rank)
app.command()(drift)


@app.command()
def explain(
    output: OutputAt,
    row_id: Annotated[str, typer.Option("--id", help="id of the row", show_default=False)],
    jaeger: Annotated[str | None, typer.Option(help="Jaeger address, for links")] = None,
    json: Json = False,
) -> None:
    """Explain one row: part, chunk, attempts, stages, error, trace."""
    from producers.commands.inspect import explain_row
    from producers.commands.session import open_session

    raise typer.Exit(explain_row(open_session({}, as_json=json), output, row_id, jaeger))


@app.command()
def traces(
    output: OutputAt,
    send: Annotated[
        str, typer.Option("--send", help="OTLP/HTTP address, e.g. http://localhost:4318")
    ],
) -> None:
    """Send the spans stored in an output to a collector, with their original ids."""
    from producers.commands.inspect import send_to_collector
    from producers.commands.session import open_session

    raise typer.Exit(send_to_collector(open_session({}), output, send))


@app.command()
def report(
    output: OutputAt,
    to: Annotated[
        str | None, typer.Option(help="file to write; default: _report.html in the output")
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="include the texts of example rows")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="an earlier output to compare with; default: that of --reuse"),
    ] = None,
    jaeger: Annotated[str | None, typer.Option(help="Jaeger address, for links")] = None,
) -> None:
    """Write the job's report: one HTML page that needs no network."""
    from producers.commands.inspect import write_report
    from producers.commands.session import open_session

    raise typer.Exit(
        write_report(open_session({}), output, to, jaeger, with_texts=with_texts, against=against)
    )


@app.command()
def controller(
    broker: Broker = None,
    registry: Registry = None,
    listen: Listen = None,
    max_workers: MaxWorkers = None,
) -> None:
    """Run the controller: publish, track and finish submitted jobs, until SIGTERM."""
    from producers.commands.controller import run_controller
    from producers.commands.session import open_session

    flags = {"broker_url": broker, "registry": registry, "listen": listen}
    session = open_session({**flags, "max_workers": max_workers}, is_service=True)
    raise typer.Exit(run_controller(session))


app.command()(serve)


@app.command()
def doctor(output: AnyOutput = None, broker: Broker = None, json: Json = False) -> None:
    """Check this installation: versions, broker, devices, store, packages. Secrets are masked."""
    from producers.commands.inspect import run_doctor
    from producers.commands.session import open_session

    session = open_session({"broker_url": broker}, as_json=json)
    raise typer.Exit(run_doctor(session, output))


@app.command()
def demo(
    folder: Folder = None,
    workers: Workers = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="a demo of a model that writes, on 2,000 notes")
    ] = False,
) -> None:
    """Run a demo: make 20,000 reviews, train a small classifier, score them."""
    if generate:
        from producers.commands.demo_of_writing import run_writing_demo

        raise typer.Exit(run_writing_demo(folder, workers))
    from producers.commands.demo import run_demo

    raise typer.Exit(run_demo(folder, workers))


def main() -> None:
    """What the console script calls."""
    run_cli(app)
