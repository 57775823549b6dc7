"""`plan`: what a job would do, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from producers.commands.session import out, settings_of
from producers.commands.submission import (
    estimate_job,
    local_workers,
    prepare_job,
    speed_here,
)
from producers.device_hint import guess_device
from producers.show_plan import render_plan
from schemas.errors import ExitCode
from schemas.settings import cache_folder
from schemas.storage.open import open_store, probe_store

NOWHERE = "plan-only"
"""Stands for the output where none was named."""


def plan_job(
    inputs: Sequence[str], output: str | None, flags: dict[str, Any], *, as_json: bool
) -> int:
    """Print the estimate; returns the exit code. An output that is named is tried for writing."""
    settings = settings_of(flags)
    hint = guess_device(settings.device)
    workers = local_workers(settings, hint)
    prepared = prepare_job(settings, inputs, output or str(cache_folder() / NOWHERE), workers)
    if output is not None:
        probe_store(open_store(prepared.output, settings))
    found = estimate_job(settings, prepared, workers, speed_here(prepared, hint, workers))
    if output is None:
        found = replace(found, output="(no --output named)")
    if as_json:
        out.print_json(json.dumps(found.to_json()))
    else:
        out.print(render_plan(found))
    return ExitCode.OK
