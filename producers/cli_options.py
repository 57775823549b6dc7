"""The options of the commands of `headrace`; those that set a setting are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.process.setting_options import (
    SETTINGS,
    parameters_of,
    setting_option,
    with_settings,
)
from headrace.tasks.catalog import BUILT_IN
from producers.task_options import task_options


def job_parameters() -> list[inspect.Parameter]:
    """The options of `run`, `submit` and `plan`: settings by group, and what the tasks declare."""
    found: list[inspect.Parameter] = []
    for group in ("The job", "How it is run", "Object store"):
        found += parameters_of([n for n, it in SETTINGS.items() if it.group == group], group=group)
    at = [it.name for it in found].index("task_params")
    found[at:at] = task_options(BUILT_IN.values())
    return found


def with_job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the job's options and those of the tasks; it gets the given ones as `flags`."""
    return with_settings(job_parameters())(command)


def named(text: str, *names: str, **more: Any) -> Any:
    """An option; its default is in its text, if it needs saying."""
    return typer.Option(*names, help=text, show_default=False, **more)


def given(text: str) -> Any:
    """An argument, given by its place."""
    return typer.Argument(help=text, show_default=False)


Inputs = Annotated[
    list[str],
    given(
        "files, folders, globs or s3://bucket/prefix; {date}, {yesterday} and {date-7} become dates"
    ),
]
Output = Annotated[str, named("folder or s3://bucket/prefix for the results", "--output", "-o")]
AnyOutput = Annotated[str | None, named("an output whose store is checked too", "--output", "-o")]
OutputAt = Annotated[str, given("output of the job")]
Where = Annotated[str, given("job id (or its first digits), or the job's output")]
AnyJob = Annotated[str | None, given("job id or output; default: list all jobs")]
Broker = setting_option("broker_url", "--broker")
Registry = setting_option("registry")
ModelRegistry = setting_option("model_registry")
Date = setting_option("date")
Workers = setting_option("workers")
GiveUpAfter = setting_option("give_up_after")
Listen = setting_option("listen")
GatewayStore = setting_option("gateway_store", "--store")
GatewayListen = setting_option("gateway_listen", "--listen")
GatewayModels = setting_option("gateway_models", "--models")
MaxWorkers = setting_option("max_workers")
Json = Annotated[bool, named("print one JSON object on standard output", "--json")]
Wait = Annotated[bool, named("wait until the job ends", "--wait")]
Folder = Annotated[
    Path | None, named("folder for the demo's corpus, model and results", "--folder")
]
