"""`headrace train`: labelled rows in, a model out, by the machinery of every job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.output.job_record import read_job
from headrace.process.numbers import plural
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tracing.job_trace import JobTrace
from producers.api.inputs import store_table
from producers.capacity.device_hint import DeviceHint, guess_device, hint_of
from producers.commands.models import make_version, version_line
from producers.commands.run import (
    drive_and_show,
    note_lost_parts,
    refusals_reported,
    show_if_over,
)
from producers.commands.session import Session, open_session, with_dates
from producers.driver.job_end import clear_stop_flags
from producers.driver.job_setup import StoredJob, register, require_device
from producers.driver.session import needed_broker
from producers.driver.submission import NO_CONTROLLER, announce, workers_of
from producers.driver.traced import job_trace
from producers.local.worker_packages import TRAINING_PACKAGES, require_packages
from producers.records.training_result import result_of
from producers.submission.create import create_job
from producers.submission.prepare import PreparedJob, masked_command
from producers.terminal.console import KeepingTerminal, command
from producers.terminal.training import result_lines, split_lines
from producers.training.asked import Asked
from producers.training.prepare import Checked, check_training, prepare_training, training_dtype
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
from schemas.records.job import Job, ResolvedDtype
from schemas.records.model_version import ModelVersion
from schemas.records.training import TrainingResult
from schemas.training_tasks import JOB_TASKS


@dataclass(frozen=True, slots=True)
class Ended:
    """A training as far as this command has driven it."""

    code: int
    job: Job
    store: Store
    printed: tuple[Any, ...] = ()
    """What `--json` would have printed of the job."""

    @property
    def model(self) -> str:
        return f"{self.job.output}/{output_layout.MODEL.rstrip('/')}"

    @property
    def result(self) -> TrainingResult | None:
        return result_of(self.store) if self.code == ExitCode.OK else None


def train_model(
    flags: dict[str, Any],
    labelled: Sequence[str],
    output: str,
    asked: Asked,
    *,
    register: str | None,
    fleet: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Check everything, make the job, and train here or on a fleet; returns the exit code."""
    session, inputs, output = open_training(flags, labelled, output, asked, as_json=as_json)
    if fleet and register and not wait:
        raise ConfigError("--register needs the finished model: add --wait")
    return _end(
        session, run_training(session, inputs, output, asked, fleet=fleet, wait=wait), register
    )


def open_training(
    flags: dict[str, Any], labelled: Sequence[str], output: str, asked: Asked, *, as_json: bool
) -> tuple[Session, list[str], str]:
    """Session, inputs and output of a training, with their dates filled in."""
    given = {k: v for k, v in flags.items() if v is not None}
    session = open_session(
        {**given, "task": JOB_TASKS[asked.task], "workers": 1, "preload": True}, as_json=as_json
    )
    session, inputs, (output,) = with_dates(session, labelled, [output])
    return session, inputs, output


def run_training(
    session: Session, inputs: Sequence[str], output: str, asked: Asked, *, fleet: bool, wait: bool
) -> Ended:
    """One training, from its checks to its end; with `fleet` and not `wait` only submitted."""
    kept = KeepingTerminal()
    if session.as_json:
        session = replace(session, terminal=kept)
    with job_trace(session.settings) as (trace, telemetry):
        started = time.time()
        with refusals_reported(session, output):
            stored, broker = _set_up(session, inputs, output, asked, trace, fleet)
        job, store = stored.job, stored.store
        code = _begin(session, stored)
        if code is None and fleet and broker is not None:
            has_controller = announce(stored, broker)
            if not wait:
                if not has_controller:
                    session.terminal.warn(f"{NO_CONTROLLER}: start `headrace controller`")
                if not session.as_json:
                    session.terminal.say(job.id)
                return Ended(ExitCode.OK, job, store, ({"id": job.id, "output": job.output},))
        if code is None:
            code = drive_and_show(session, job, store, broker, trace, telemetry, started=started)
    return Ended(code, job, store, tuple(kept.objects))


def _set_up(
    session: Session, inputs: Sequence[str], output: str, asked: Asked, trace: JobTrace, fleet: bool
) -> tuple[StoredJob, Any]:
    """The job in its output, and the fleet's broker."""
    settings, terminal = session.settings, session.terminal
    broker = needed_broker(settings) if fleet else None
    if broker is None:
        hint: DeviceHint | None = guess_device(settings.device)
    else:
        hint = hint_of(workers_of(broker, settings.queue))
    if hint is not None and not fleet:
        more = ("peft",) if asked.lora else ()
        require_packages("training", (*TRAINING_PACKAGES, *more), "headrace[cpu,train]")
        require_device(settings, hint)
    with trace("plan"):
        checked = check_training(settings, inputs, asked)
        if not session.as_json:
            for line in split_lines(checked):
                terminal.note(line)
        terminal.warn(*checked.warnings)
        before = read_job(open_store(output, settings)) if fleet else None
        dtype, said = training_dtype(settings.dtype, hint, before)
        terminal.warn(*([] if said is None else [said]))
        return _store(session, inputs, output, checked, dtype, trace), broker


def _store(
    session: Session, inputs: Sequence[str], output: str, checked: Checked, dtype: ResolvedDtype,
    trace: JobTrace,
) -> StoredJob:  # fmt: skip
    prepared: PreparedJob = prepare_training(
        session.settings, inputs, output, checked, dtype, store_table
    )

    store = open_store(prepared.output, session.settings)
    job, is_new = create_job(
        store, prepared, now_s=time.time(), command=masked_command(sys.argv),
        trace_id=trace.trace_id, span_id=trace.span_id,
    )  # fmt: skip
    trace.adopt(job, store)
    register(job, store, session.settings)
    return StoredJob(job, store, is_new)


def _begin(session: Session, stored: StoredJob) -> int | None:
    """The exit code of a training that is over; None: it begins, or goes on."""
    job, store = stored.job, stored.store
    if not stored.is_new:
        note_lost_parts(session, store)
        over = show_if_over(session, job, store)
        if over is not None:
            return over
        clear_stop_flags(store)
    if not session.as_json:
        resumed = "" if stored.is_new else " (resumed)"
        session.terminal.note(
            f"job {job.id}: {plural(job.rows, 'labelled row')} → {job.output}{resumed}"
        )
    return None


def _end(session: Session, ended: Ended, name: str | None) -> int:
    """Say what came out, and register it if that was asked for."""
    result = ended.result
    if not session.as_json:
        say_result(session, ended)
    version = None
    if name is not None and ended.code == ExitCode.OK and result is not None:
        version = register_training(session, ended, result, name)
        if not session.as_json:
            session.terminal.say(version_line(version))
    elif result is not None and not session.as_json:
        session.terminal.say(f"  next    {command('run', *_next(result, ended.model))}")
    if session.as_json:
        session.terminal.print_json(as_one(ended, version))
    return ended.code


def say_result(session: Session, ended: Ended) -> None:
    """Scores, steps and where the model is, of a training that has come to its end."""
    result = ended.result
    if result is not None:
        for line in result_lines(result, ended.model):
            session.terminal.say(*line)


def register_training(
    session: Session, ended: Ended, result: TrainingResult, name: str
) -> ModelVersion:
    """A version of the model that was trained."""
    note = f"headrace train, job {ended.job.id}"
    return make_version(session.settings, name, ended.model, task=result.spec.task, note=note)


def as_one(ended: Ended, version: ModelVersion | None) -> dict[str, Any]:
    """The one object of `--json`: the job as every command prints it, and what came out."""
    result = ended.result
    found: dict[str, Any] = dict(ended.printed[-1]) if ended.printed else {"id": ended.job.id}
    if result is not None:
        found["training"] = {"model": ended.model, "scores": result.scores, "steps": result.steps,
                  "best_step": result.best_step}  # fmt: skip
    if version is not None:
        found["version"] = version.model_dump(mode="json")
    return found


def _next(result: TrainingResult, model: str) -> list[str]:
    """The words that score with the model."""
    words = ["INPUT", "--output", "OUT", "--model", model]
    if result.spec.task == "text-classification":
        return words
    return [*words, "--task", result.spec.task]
