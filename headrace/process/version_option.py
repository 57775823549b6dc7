"""`--version` of both command lines."""

from __future__ import annotations

from typing import Annotated

import typer


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="print the version", is_eager=True, callback=_print_version),
]
