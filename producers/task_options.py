"""The options of tasks on the command line, made from what their specs declare.

Our own tasks' options are there from the start. Those of installed packages cost a search of all
packages, which is made for `--help` and for an option that is none of headrace's, so that a plain
command starts as fast without them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from headrace.tasks.catalog import plug_in_specs
from headrace.tasks.spec import Param, TaskSpec

_PLUG_IN = "plug_in_option__"
"""Begins the Python name of a plug-in's option, which may be called as one of ours."""


def task_options(
    tasks: Iterable[TaskSpec],
    prefix: str = "",
    panel: str = "The job",
    taken: Collection[str] = (),
) -> list[inspect.Parameter]:
    """The tasks' options as parameters of a command, each name once; all default to None.

    An option whose flag is `taken` is left out: `--task-params` still sets it.
    """
    owners: dict[str, list[str]] = {}
    params: dict[str, Param] = {}
    for task in tasks:
        for param in task.params:
            params.setdefault(param.name, param)
            owners.setdefault(param.name, []).append(task.name)
    return [
        inspect.Parameter(
            f"{prefix}{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[param.type | None, _option(param, owners[name], panel)],
        )
        for name, param in params.items()
        if not any(flag in taken for flag in param.flag.split("/"))
    ]


def _option(param: Param, owners: list[str], panel: str) -> Any:
    text = f"{', '.join(owners)}: {param.help}"
    return typer.Option(param.flag, help=text, rich_help_panel=panel, show_default=False)


def _with_options(task_params: str | None, options: Mapping[str, Any]) -> str | None:
    """`--task-params` with the options that were given beside it."""
    found = {name: value for name, value in options.items() if value is not None}
    if not found:
        return task_params
    try:
        more = json.loads(task_params or "{}")
    except ValueError:
        return task_params  # the settings say what is wrong with it
    return json.dumps({**more, **found}) if isinstance(more, Mapping) else task_params


class JobCommand(typer.core.TyperCommand):
    """A command that takes the options of plug-in tasks too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Looks the plug-ins' options up where an argument is none of ours, or asks for help."""
        ours = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        words = {word.partition("=")[0] for word in args if word.startswith("-")}
        if not words <= ours:
            self.params = [*self.params, *_plug_in_options(ours)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Hands the plug-ins' options on as `task_params`: the command has no parameters for them."""
        names = [name for name in ctx.params if name.startswith(_PLUG_IN)]
        options = {name.removeprefix(_PLUG_IN): ctx.params.pop(name) for name in names}
        ctx.params["task_params"] = _with_options(ctx.params["task_params"], options)
        return super().invoke(ctx)


def _plug_in_options(ours: set[str]) -> list[Any]:
    def command(**given: Any) -> None:
        """Only its parameters count."""

    options = task_options(plug_in_specs(), _PLUG_IN, "Options of plug-in tasks", ours)
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return list(typer.main.get_command(app).params)
