"""How a door of headrace is opened: an error of ours is one line and its own exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from schemas.errors import ExitCode, HeadraceError


def run_cli(app: Callable[[], object]) -> None:
    """Run the command line; ends the process where something is wrong."""
    try:
        app()
    except HeadraceError as error:
        import typer

        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
