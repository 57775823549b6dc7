"""The commands `headrace models …`. Each imports what it needs: `--help` answers at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from producers.cli_options import Json, ModelRegistry

app = typer.Typer(
    help="Versions of models, and the aliases that point to them.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="the model's name, e.g. reviews", show_default=False)]
Alias = Annotated[str, typer.Argument(help="the alias, e.g. champion", show_default=False)]
Why = Annotated[str, typer.Option("--why", help="the reason; the log keeps it", show_default=False)]


@app.command("list")
def list_(model_registry: ModelRegistry = None, json: Json = False) -> None:
    """Show every model with its newest version and its aliases."""
    from producers.commands.models import list_models

    raise typer.Exit(list_models(_session(model_registry, json)))


@app.command()
def show(name: Name, model_registry: ModelRegistry = None, json: Json = False) -> None:
    """Show every version of a model, and who moved which alias, when and why."""
    from producers.commands.models import show_model

    raise typer.Exit(show_model(_session(model_registry, json), name))


@app.command()
def register(
    name: Name,
    model: Annotated[
        str, typer.Argument(help="local folder, hub id, or s3:// folder", show_default=False)
    ],
    task: Annotated[
        str, typer.Option("--task", help="what the model is for")
    ] = "text-classification",
    note: Annotated[str, typer.Option("--note", help="what to remember", show_default=False)] = "",
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="output of this model that headrace drift compares later nights with",
            show_default=False,
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column", help="column of that output with the gold label", show_default=False
        ),
    ] = None,
    model_registry: ModelRegistry = None,
    json: Json = False,
) -> None:
    """Make a model the next version under a name. Its files stay where they are."""
    from producers.commands.models import register_model

    raise typer.Exit(
        register_model(
            _session(model_registry, json), name, model, task=task, note=note,
            reference=reference, label_column=label_column,
        )
    )  # fmt: skip


@app.command()
def promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="number of the version", show_default=False)],
    alias: Alias,
    why: Why = "",
    seen: Annotated[
        int | None,
        typer.Option(
            "--seen",
            help="number of the alias's last move that you know; refuse if another came since",
            show_default=False,
        ),
    ] = None,
    model_registry: ModelRegistry = None,
    json: Json = False,
) -> None:
    """Point an alias at a version; jobs submitted from now on use it."""
    from producers.commands.models import promote_model

    raise typer.Exit(
        promote_model(_session(model_registry, json), name, version, alias, seen=seen, why=why)
    )


@app.command()
def rollback(
    name: Name,
    alias: Alias,
    why: Why = "",
    model_registry: ModelRegistry = None,
    json: Json = False,
) -> None:
    """Point an alias at the version before its last move."""
    from producers.commands.models import roll_back_model

    raise typer.Exit(roll_back_model(_session(model_registry, json), name, alias, why=why))


def _session(model_registry: str | None, as_json: bool) -> Any:
    from producers.commands.session import open_session

    return open_session({"model_registry": model_registry}, as_json=as_json)
