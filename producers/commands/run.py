"""`run`: a corpus to its scored output on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from headrace.process.numbers import plural
from producers.capacity.device_hint import guess_device
from producers.driver.drive import already_over, drive_here, wake
from producers.driver.job_setup import (
    local_workers,
    prepare_job,
    speed_here,
    store_job,
    wait_for_input,
)
from producers.driver.traced import job_trace
from producers.local.fleet import LocalStack
from producers.terminal.context import (
    err,
    settings_of,
)


def run_job(
    inputs: Sequence[str],
    output: str,
    flags: dict[str, Any],
    *,
    as_json: bool,
    here: LocalStack | None = None,
) -> int:
    """Plan, start Redis and workers, drive the job to its end; returns the exit code.

    `here` may have been started already.
    """
    settings = settings_of(flags)
    started = time.time()
    with job_trace(settings) as (trace, telemetry):
        wait_for_input(settings, threading.Event().wait)
        hint = guess_device(settings.device)
        workers = local_workers(settings, hint)
        with trace("plan"):
            prepared = prepare_job(settings, inputs, output, workers)
            speed = speed_here(prepared, hint, workers)
            job, store, is_new = store_job(settings, prepared, trace, workers, speed)
        if not is_new:
            over = already_over(job, store, as_json=as_json)
            if over is not None:
                return over
            wake(store)
        if not as_json:
            err.print(
                f"job {job.id}: {plural(job.rows, 'row')} in {plural(job.chunks, 'chunk')}, "
                f"{plural(workers, 'worker')} → {job.output}"
                + ("" if is_new else " (resumed)"),
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        return drive_here(
            job, store, settings, trace, telemetry, started, as_json=as_json, here=here
        )
