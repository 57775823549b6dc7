"""What every command starts with: settings, logging, and its terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from headrace.process.logs import configure_logging
from headrace.settings import Settings, is_state_temporary, load_settings, state_folder
from producers.submission.dates import fill_dates, logical_date
from producers.terminal.console import Terminal


@dataclass(frozen=True, slots=True)
class Session:
    """A command's settings, loaded once, and its terminal."""

    settings: Settings
    terminal: Terminal
    as_json: bool = False


def open_session(
    flags: dict[str, Any], *, as_json: bool = False, is_service: bool = False
) -> Session:
    """The session of one command.

    Raises:
        ConfigError: see `load_settings`.
    """
    return session_with(load_settings(**flags), as_json=as_json, is_service=is_service)


def session_with(settings: Settings, *, as_json: bool = False, is_service: bool = False) -> Session:
    """The session with these settings; only warnings are logged if people read the output."""
    terminal = Terminal()
    quiet = (
        settings
        if is_service or settings.log_level != "info"
        else settings.model_copy(update={"log_level": "warning"})
    )
    configure_logging(quiet, sys.stderr, terminal.err if terminal.err.is_terminal else None)
    if is_state_temporary():
        terminal.warn(
            f"the home folder cannot be written: the list of jobs and the logs are in {state_folder()}, "
            "which a restart may empty; set XDG_STATE_HOME or HOME"
        )
    return Session(settings, terminal, as_json)


def with_dates(
    session: Session, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Session, list[str], list[str]]:
    """The session, inputs and outputs with each `{date}` filled in, once for the whole command.

    Raises:
        ConfigError: `--date` is no date, or a word in braces is not known.
    """
    settings = session.settings
    day = logical_date(settings.date, date.today())
    paths = {name: getattr(settings, name) for name in ("reuse", "wait_for", "model")}
    filled = {k: fill_dates(v, day) for k, v in paths.items() if v is not None}
    return (
        replace(session, settings=settings.model_copy(update=filled)),
        list(inputs) if settings.literal else [fill_dates(path, day) for path in inputs],
        [fill_dates(path, day) for path in outputs],
    )
