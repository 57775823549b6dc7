"""How a command line begins and ends: signals, streams, and errors as one line and an exit code."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from headrace.process.printable import printable
from headrace.process.streams import keep_writing
from schemas.errors import ExitCode, HeadraceError, UsageError, error_type_of


def run_cli(app: Callable[[], object]) -> None:
    """Run the command line; exits with the code of the error, if there is one.

    With `--json` an error is also one object on standard output.
    """
    leave_on_ctrl_c()
    keep_writing()
    as_json = "--json" in sys.argv[1:]
    try:
        app()
    except HeadraceError as error:
        _say(f"error: {error}")
        if as_json:
            _print_json(error, error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except SystemExit as end:
        if as_json and end.code == ExitCode.USAGE:  # typer has said on standard error what is wrong
            _print_json(UsageError("the command line is wrong, see --help"), ExitCode.USAGE)
        raise
    except Exception as error:
        if as_json:
            _print_json(error, ExitCode.UNEXPECTED)
        raise


def run_command_line(module: str) -> None:
    """Import the module, whose `app` is the command line, and run it."""
    leave_on_ctrl_c()
    run_cli(importlib.import_module(module).app)


def leave_on_ctrl_c() -> None:
    """End with the exit code of an interrupt, without a traceback, until a command takes over.

    As `SystemExit`: typer would make exit code 1 of a `KeyboardInterrupt`.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(signum: int, frame: object) -> NoReturn:
    raise SystemExit(ExitCode.INTERRUPTED)


def _say(line: str) -> None:
    import typer

    typer.secho(printable(line), fg="red", err=True)


def _print_json(error: BaseException, exit_code: int) -> None:
    found = {"error": error_type_of(error), "message": str(error), "exit_code": int(exit_code)}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
