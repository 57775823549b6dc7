"""Starts Redis and workers before the command's own modules are imported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from headrace.process.fast_imports import fast_imports
from headrace.settings import (
    load_settings,
)
from producers.local.fleet import LocalStack
from producers.submission.dates import fill_dates, logical_date
from schemas.names import output_layout


def run_from_cold(
    inputs: Sequence[str], output: str, flags: dict[str, Any], *, as_json: bool
) -> int:
    """`run_job`, with Redis and workers started before anything else is imported and planned.

    Not started early if the output has a job already: that may be over and need no worker.
    """
    with LocalStack() as here:
        settings = load_settings(**flags)
        if settings.broker_url is not None:
            require_answer(settings.broker_url.get_secret_value())
        day = logical_date(settings.date, date.today())
        if settings.wait_for is None and _is_new(fill_dates(output, day)):
            here.start(settings)
        with fast_imports():
            from producers.commands.run import run_job
            from producers.commands.session import session_with, with_dates

        today = settings.model_copy(update={"date": day.isoformat()})  # midnight may come meanwhile
        session, inputs, (output,) = with_dates(
            session_with(today, as_json=as_json), inputs, [output]
        )
        return run_job(session, inputs, output, here=here)


def require_answer(url: str) -> None:
    """Nothing, where the Redis that was named answers; before anything is written or started.

    Raises:
        BrokerError: it does not.
    """
    from headrace.queue.redis_connection import connect, ping_or_raise

    client = connect(url, name="headrace")
    try:
        ping_or_raise(client, url)
    finally:
        client.close()


def _is_new(output: str) -> bool:
    """True if it is a folder of this machine without a job; other places are not checked yet."""
    return "://" not in output and not (Path(output) / output_layout.JOB).exists()
