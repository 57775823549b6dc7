"""`submit`: store the job, tell the controller, and follow it if asked to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from headrace.coordination.announced_jobs import announce_job
from headrace.coordination.live_workers import read_workers
from producers.capacity.device_hint import guess_device, hint_of
from producers.capacity.speed_history import fleet_speed
from producers.driver.drive import drive
from producers.driver.job_setup import (
    local_workers,
    prepare_job,
    store_job,
    wait_for_input,
)
from producers.driver.traced import job_trace
from producers.terminal.context import (
    err,
    needed_broker,
    out,
    settings_of,
)
from schemas.errors import ConfigError, ExitCode
from schemas.names import redis_keys
from schemas.records.job import Job


def submit_job(
    inputs: Sequence[str], output: str, flags: dict[str, Any], *, wait: bool, as_json: bool
) -> int:
    """Queue a job; returns the exit code. Prints the job's id on standard output.

    Raises:
        ConfigError: no broker was named, or `--on-finish` was and nobody here waits for the end.
    """
    settings = settings_of(flags)
    if flags.get("on_finish") and not wait:
        raise ConfigError(
            "--on-finish belongs to the process that ends the job: add --wait, or give it to the "
            "controller as HEADRACE_ON_FINISH"
        )
    broker = needed_broker(settings)
    with job_trace(settings) as (trace, telemetry):
        wait_for_input(settings, threading.Event().wait)
        with trace("plan"):
            seen = [
                worker
                for worker in read_workers(broker.client, time.time())
                if worker.queue == settings.queue
            ]
            workers = len(seen) or local_workers(settings, guess_device("cpu"))
            prepared = prepare_job(settings, inputs, output, workers, hint_of(seen))
            speed = fleet_speed(broker.client, settings.queue, prepared.spec)
            job, store, is_new = store_job(settings, prepared, trace, workers, speed)
        announce_job(broker.client, job.key, job.output)
        if not (wait and as_json):  # then the end of the job is the one object
            _say(job, is_new, as_json=as_json)
        if wait:
            return drive(job, store, broker, trace, telemetry, as_json=as_json, settings=settings)
        if not broker.client.exists(redis_keys.CONTROLLER):
            err.print(
                "[yellow]warning:[/] no controller is running at this broker, so nothing is published yet: "
                "start `headrace controller`, or submit with --wait",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
    return ExitCode.OK


def _say(job: Job, is_new: bool, *, as_json: bool) -> None:
    if as_json:
        out.print_json(
            json.dumps(
                {
                    "job": job.id,
                    "output": job.output,
                    "rows": job.rows,
                    "chunks": job.chunks,
                    "new": is_new,
                }
            )
        )
        return
    out.print(job.id, highlight=False)
    what = "submitted" if is_new else "the same job is there already; adopted"
    err.print(
        f"{what}: {job.rows:,} rows in {job.chunks:,} chunks → {job.output}",
        highlight=False,
        soft_wrap=True,
    )
