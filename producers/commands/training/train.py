"""`headrace train`: labelled rows in, a model out, by the machinery of every job."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from headrace.process.numbers import plural
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tracing.job_trace import JobTrace
from producers.api.inputs import store_table
from producers.capacity.device_hint import DeviceHint, guess_device
from producers.commands.models import register_model
from producers.commands.quality.evaluate import read_map
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
from producers.driver.submission import NO_CONTROLLER, announce
from producers.driver.traced import job_trace
from producers.local.worker_packages import TRAINING_PACKAGES, require_packages
from producers.records.training_result import result_of
from producers.submission.create import create_job
from producers.submission.prepare import PreparedJob, masked_command
from producers.terminal.console import command
from producers.terminal.training import result_lines, split_lines
from producers.training.asked import Asked
from producers.training.prepare import Checked, check_training, prepare_training
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.training import JOB_TASKS, Lora, ModelTask, Size, TrainingResult

_SIZE = re.compile(r"(\d+)x(\d+)(?:x(\d+))?")
_PROBLEMS = {
    "single-label": "single_label",
    "multi-label": "multi_label",
    "regression": "regression",
}


def asked_of(
    *,
    label_column: str,
    has_gold: bool,
    teacher: str | None,
    student_layers: int | None,
    teacher_temperature: float | None,
    gold_weight: float | None,
    task: ModelTask,
    tokens_column: str | None,
    base: str | None,
    size: str | None,
    problem: str | None,
    renamed: str | None,
    validation: str,
    balanced: bool,
    lora: Lora | None,
    hyperparameters: dict[str, Any],
) -> Asked:
    """What the command line says.

    Raises:
        ConfigError: a size or a map that cannot be read.
    """
    distilled = {"temperature": teacher_temperature, "gold_weight": gold_weight}
    return Asked(
        has_gold=has_gold, teacher=teacher, student_layers=student_layers,
        distilled={name: value for name, value in distilled.items() if value is not None},
        label_column=label_column, task=task, tokens_column=tokens_column, base=base,
        size=None if size is None else parse_size(size),
        problem=None if problem is None else _PROBLEMS[problem],  # type: ignore[arg-type]
        renamed=read_map(renamed), validation=validation, balanced=balanced,
        lora=lora,
        hyperparameters=hyperparameters,
    )  # fmt: skip


def lora_of(is_on: bool, rank: int | None, alpha: int | None, targets: str | None) -> Lora | None:
    """The adapters that the command line asks for.

    Raises:
        ConfigError: options of them without `--lora`, or out of bounds.
    """
    given: dict[str, Any] = {"rank": rank, "alpha": alpha}
    given = {name: value for name, value in given.items() if value is not None}
    if targets is not None:
        given["targets"] = tuple(filter(None, (t.strip() for t in targets.split(","))))
    if not is_on:
        if given:
            raise ConfigError(f"--lora-{next(iter(given))} is for --lora")
        return None
    try:
        lora = Lora(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--lora-{first['loc'][0]}: {first['msg']}") from error
    return lora if "alpha" in given else lora.model_copy(update={"alpha": 2 * lora.rank})


def parse_size(text: str) -> Size:
    """`2x128x4000` as layers, width and vocabulary; the vocabulary may be left out.

    Raises:
        ConfigError: it is not of that form, or not within bounds.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--size {text}: write layers x width x vocabulary, e.g. 2x128x4000")
    names = ("layers", "width", "vocabulary")
    given = {n: int(v) for n, v in zip(names, match.groups(), strict=True) if v is not None}
    try:
        size = Size(**given)
    except ValidationError as error:
        raise ConfigError(f"--size {text}: {error.errors()[0]['msg']}") from error
    if size.width % size.heads:
        raise ConfigError(
            f"--size {text}: the width is a multiple of {32 if size.width < 256 else 64}"
        )
    return size


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
    given = {k: v for k, v in flags.items() if v is not None}
    session = open_session(
        {**given, "task": JOB_TASKS[asked.task], "workers": 1, "preload": True}, as_json=as_json
    )
    session, inputs, (output,) = with_dates(session, labelled, [output])
    if fleet and register and not wait:
        raise ConfigError("--register needs the finished model: add --wait")
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
                session.terminal.say(job.id)
                return ExitCode.OK
        if code is None:
            code = drive_and_show(session, job, store, broker, trace, telemetry, started=started)
    return _end(session, job, store, register) if code == ExitCode.OK else code


def _set_up(
    session: Session, inputs: Sequence[str], output: str, asked: Asked, trace: JobTrace, fleet: bool
) -> tuple[StoredJob, Any]:
    """The job in its output, and the fleet's broker."""
    settings, terminal = session.settings, session.terminal
    broker = needed_broker(settings) if fleet else None
    hint = guess_device("cpu" if fleet else settings.device)
    if not fleet:
        more = ("peft",) if asked.lora else ()
        require_packages("training", (*TRAINING_PACKAGES, *more), "headrace[cpu,train]")
        require_device(settings, hint)
    with trace("plan"):
        checked = check_training(settings, inputs, asked)
        if not session.as_json:
            for line in split_lines(checked):
                terminal.note(line)
        terminal.warn(*checked.warnings)
        return _store(session, inputs, output, checked, hint, trace), broker


def _store(
    session: Session, inputs: Sequence[str], output: str, checked: Checked, hint: DeviceHint,
    trace: JobTrace,
) -> StoredJob:  # fmt: skip
    prepared: PreparedJob = prepare_training(
        session.settings, inputs, output, checked, hint, store_table
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


def _end(session: Session, job: Job, store: Store, name: str | None) -> int:
    """Say what came out, and register it if that was asked for."""
    result = result_of(store)
    model = f"{job.output}/{output_layout.MODEL.rstrip('/')}"
    if result is not None and not session.as_json:
        for line in result_lines(result, model):
            session.terminal.say(*line)
    if name is not None:
        note = f"headrace train, job {job.id}"
        task = "text-classification" if result is None else result.spec.task
        return register_model(session, name, model, task=task, note=note)
    if not session.as_json:
        session.terminal.say(f"  next    {command('run', *_next(result, model))}")
    return ExitCode.OK


def _next(result: TrainingResult | None, model: str) -> list[str]:
    """The words that score with the model."""
    words = ["INPUT", "--output", "OUT", "--model", model]
    if result is None or result.spec.task == "text-classification":
        return words
    return [*words, "--task", result.spec.task]
