"""`headrace-worker check-precision`: rows in float32 and in another precision, on this machine.

The question is a `PrecisionRequest` on standard input, the answer an `Agreement` on standard
output; texts are neither in arguments nor in files. Both models are in memory at once. `headrace`
starts it for `plan --check-precision` and before a job in int8.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from pydantic import ValidationError

from headrace.process.entrypoint import run_cli
from headrace.process.logs import configure_logging
from headrace.settings import (
    Settings,
    environment_of,
    load_settings,
    process_environment,
)
from headrace.storage.open import open_store
from headrace.tasks.contract import (
    ComparableOutput,
    Encodings,
    LoadRequest,
    SupportsComparison,
    Task,
)
from headrace.tasks.registry import load_task
from schemas.errors import ConfigError, MissingExtra, ModelError
from schemas.records.precision import Agreement, PrecisionRequest
from workers.batching.packing import pack
from workers.devices.device import (
    CPU,
    device_inside,
    dtypes_of,
    not_served,
    set_threads,
)
from workers.fleet.slots import cores_available, plan_slots
from workers.models.fetch import local_model
from workers.models.preload import Preload
from workers.precision.agreement import compare

TIMED_BATCHES = 4  # chosen: of some 2,000 tokens each; half a second with a small model
ROUNDS = 3


def become_the_check(flags: dict[str, Any]) -> None:
    """Replace this process by one that is started as a worker is: memory settings, its own device.

    Raises:
        ConfigError: the setting `device` is invalid, or names a GPU that does not exist.
    """
    settings = load_settings(**flags)
    slot = plan_slots(settings, cores_available())[0]
    changes = {**environment_of(settings), **slot.environment()}
    os.execve(sys.executable, [sys.executable, "-m", __name__], process_environment(**changes))


def main() -> None:
    """Answer the question on standard input."""
    settings = load_settings()
    configure_logging(settings, sys.stderr)
    try:
        request = PrecisionRequest.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]["msg"]
        raise ConfigError(f"standard input holds no question about precision: {first}") from error
    with contextlib.redirect_stdout(sys.stderr):  # a model's own code may print
        Preload().wait()
        found = check(request, settings, settings.device, settings.threads or 1)
    print(found.model_dump_json())


def check(
    request: PrecisionRequest,
    settings: Settings,
    device: str,
    threads: int,
    serves: Callable[[str], Collection[str]] = dtypes_of,
) -> Agreement:
    """How close the requested precision is to float32 on the request's rows.

    The rows are scored on half of the cores; the speed is that of a worker of so many threads.

    Raises:
        ConfigError: nothing to compare, or a task that cannot be compared.
        ModelError, ModelChanged: the model cannot be loaded, or the device lacks the precision.
        MissingExtra: the engine is not installed here.
    """
    started = time.perf_counter()
    if request.dtype == "float32" or not request.texts:
        raise ConfigError("there is nothing to compare: float32 with itself, or no rows")
    if request.dtype not in serves(device):
        raise ModelError(not_served(request.dtype, device))
    try:
        set_threads(device, max(1, len(cores_available()) // 2))
        exact, rounded = (_load(request, settings, device, d) for d in ("float32", request.dtype))
    except ImportError as error:
        raise MissingExtra(
            f"the engine is not installed here ({error.name}): pip install 'headrace[cpu]' (or [gpu])"
        ) from error
    encoded = exact.encode(request.texts, request.pairs)
    batches = [encoded.take(rows) for rows in _batches(exact, rounded, encoded)]
    one, two = (_answers(task, batches) for task in (exact, rounded))
    try:
        found = compare(one, two)
    except ValueError as error:
        raise ConfigError(f"there is nothing to compare: {error}") from error
    set_threads(device, threads)
    alone = device == CPU and threads == 1  # processor time then excludes other processes
    speed = _speed(
        exact, rounded, _some(batches), time.process_time if alone else time.perf_counter
    )
    return Agreement(
        dtype=request.dtype,
        device=device,
        rows=len(request.texts),
        **asdict(found),
        speed=round(speed, 3),
        seconds=round(time.perf_counter() - started, 2),
    )


def _load(request: PrecisionRequest, settings: Settings, device: str, dtype: str) -> Any:
    task = load_task(request.task)
    if not isinstance(task, SupportsComparison):
        raise ConfigError(f"the task {request.task} does not say how its answers are compared")
    pickle = request.allow_pickle and settings.allow_pickle
    remote_code = request.trust_remote_code and settings.trust_remote_code
    folder = local_model(
        request.model_uri,
        request.model_revision,
        settings,
        partial(open_store, settings=settings),
        allow_pickle=pickle,
        trust_remote_code=remote_code,
    )
    task.load(
        LoadRequest(
            model_path=str(folder),
            device=device_inside(device),
            dtype=dtype,
            max_length=request.max_length,
            engine=request.engine,
            params=request.params,
            trust_remote_code=remote_code,
            allow_pickle=pickle,
        )
    )
    return task


def _batches(exact: Task, rounded: Task, encoded: Encodings) -> list[np.ndarray]:
    padded = any(bool(getattr(task, "padded", True)) for task in (exact, rounded))
    return pack(encoded.lengths, exact.default_batch_tokens(), padded=padded)


def _answers(task: Any, batches: list[Encodings]) -> ComparableOutput:
    found = [task.answers(batch, task.forward(batch)) for batch in batches]
    return ComparableOutput(
        found[0].kind, np.concatenate([f.numbers for f in found]), found[0].quiet
    )


def _some(batches: list[Encodings]) -> list[Encodings]:
    """A few batches to time, from the longest rows to the shortest."""
    step = max(1, len(batches) // TIMED_BATCHES)
    return batches[step // 2 :: step][:TIMED_BATCHES]


def _speed(
    exact: Task, rounded: Task, batches: list[Encodings], clock: Callable[[], float]
) -> float:
    """How many times as fast the second is: both run in turns, and the faster of two rounds counts."""
    for task in (exact, rounded):
        task.forward(batches[0])  # with other threads than before, the first is slower
    times = np.array([_times(exact, rounded, batch, clock) for batch in batches])
    return float(times[:, 0].sum() / max(1e-9, times[:, 1].sum()))


def _times(
    exact: Task, rounded: Task, batch: Encodings, clock: Callable[[], float]
) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, task in enumerate((exact, rounded)):
            start = clock()
            task.forward(batch)
            best[which] = min(best[which], clock() - start)
    return best[0], best[1]


if __name__ == "__main__":
    run_cli(main)
