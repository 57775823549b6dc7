"""`plan`: what a job would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.settings import cache_folder
from headrace.storage.open import open_store
from headrace.storage.probe import probe_store
from producers.capacity.device_hint import guess_device
from producers.commands.session import Session
from producers.driver.job_setup import (
    estimate_job,
    local_workers,
    prepare_job,
    speed_here,
)
from producers.driver.precision_gate import check_precision
from producers.submission.precision import GATED
from producers.submission.prepare import PreparedJob
from producers.terminal.plan import render_plan
from producers.terminal.precision import render_precision
from schemas.errors import ConfigError, ExitCode
from schemas.records.precision import PrecisionCheck

NOWHERE = "plan-only"
"""Placeholder for an output that was not named."""


def plan_job(
    session: Session, inputs: Sequence[str], output: str | None, *, with_precision: bool
) -> int:
    """Print the estimate; returns the exit code. A named output is tested by a write.

    `with_precision` compares the job's precision with float32. The exit code says whether a job
    would be refused for it.

    Raises:
        ConfigError: the precision is float32 itself.
    """
    settings, terminal = session.settings, session.terminal
    hint = guess_device(settings.device)
    workers = local_workers(settings, hint)
    prepared = prepare_job(settings, inputs, output or str(cache_folder() / NOWHERE), workers)
    terminal.warn(*prepared.warnings)
    if output is not None:
        probe_store(open_store(prepared.output, settings))
    found = estimate_job(settings, prepared, workers, speed_here(prepared, hint, workers))
    if output is None:
        found = replace(found, output="(no --output named)")
    checked = _checked(session, prepared) if with_precision else None
    if session.as_json:
        more = {"precision": checked.model_dump(mode="json") if checked else None}
        terminal.print_json(found.to_json() | more)
    else:
        terminal.show(render_plan(found))
        if checked is not None:
            terminal.show(render_precision(checked, prepared.spec.dtype))
    if checked is None or checked.passed or checked.accepted:
        return ExitCode.OK
    return ExitCode.PRECISION if prepared.spec.dtype in GATED else ExitCode.OK


def _checked(session: Session, prepared: PreparedJob) -> PrecisionCheck:
    if prepared.spec.dtype == "float32":
        raise ConfigError(
            "--check-precision compares with float32, and this job has that already: say --dtype "
            "int8, bfloat16 or float16"
        )
    return check_precision(session.settings, prepared, session.terminal.note)
