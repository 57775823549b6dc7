"""A contestant in a process of its own, with one job or several: who gives what back, line by line.

The process prints tagged lines, so that what a library prints stands in nobody's way, and each as
soon as it is known: a job that ends the process takes neither earlier nor later ones with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.job import MALLOC, Job

TAG = "@outcome "
ROOT = Path(__file__).parents[2]
IDLE_PROCESSES = 2  # chosen: one may have met a GPU that was not yet free of the last one


@dataclass(frozen=True)
class Asked:
    """How a contestant's processes are run."""

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = 1_800
    until_s: float | None = None
    """No job begins after this second of the epoch; one under way may use `limit_s` up."""


@dataclass(frozen=True)
class Told:
    """What became of a job: an outcome, or why there is none; with neither, that it has begun."""

    job: int
    outcome: Mapping[str, Any] | None = None
    failed: str = ""
    missing: str = ""
    """A package that is not installed: nothing was tried."""

    @property
    def is_over(self) -> bool:
        return self.outcome is not None or bool(self.failed or self.missing)


def tell(told: Told) -> None:
    """Print it for `read_line`, at once."""
    print(TAG + json.dumps(asdict(told)), flush=True)


def read_line(line: str) -> Told | None:
    """What a line says of a job; None for what libraries print."""
    return Told(**json.loads(line.removeprefix(TAG))) if line.startswith(TAG) else None


def run_jobs(name: str, jobs: Sequence[Job], asked: Asked) -> Iterator[Told]:
    """Each job's fate as soon as it is known, in order; those after `until_s` are left out.

    A job that ends its process has failed, and the rest go on in a new one; they all have failed
    where two processes, one after the other, ended before they began anything.
    """
    done = idle = 0
    while done < len(jobs) and idle < IDLE_PROCESSES and not _is_late(asked):
        begun, first, reason = done, done, ""
        for found in _one_process(name, jobs[first:], asked):
            if isinstance(found, str):
                reason = found
            elif found.is_over:
                done = first + found.job + 1
                yield replace(found, job=done - 1)
            else:
                begun = first + found.job + 1
        if not reason:
            return
        idle = idle + 1 if begun == first == done else 0
        if begun > done:
            yield Told(done, failed=reason)
            done = begun
    if idle:
        yield from (Told(number, failed=reason) for number in range(done, len(jobs)))


def _is_late(asked: Asked) -> bool:
    return asked.until_s is not None and time.time() > asked.until_s


def _one_process(name: str, jobs: Sequence[Job], asked: Asked) -> Iterator[tuple[Told | None, str]]:
    """Lines as they come, and at last why the process failed, where it did."""
    command = [asked.python, "-m", "benchmarks.side_by_side.contestants", name]
    if asked.until_s is not None:
        command += ["--until", str(asked.until_s)]
    command += [json.dumps(asdict(job)) for job in jobs]
    threads = {n: str(jobs[0].threads) for n in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    fixed = {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", **threads}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | MALLOC | fixed | dict(asked.environment) | {"PYTHONPATH": path}
    late = threading.Event()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        timer = threading.Timer(_patience_s(asked), _end, (process, late))
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                told = read_line(line)
                if told is not None:
                    yield told
            process.wait()
        finally:
            timer.cancel()
            process.kill()
        if process.returncode:
            errors.seek(0)
            why = "ran out of time" if late.is_set() else f"ended with {process.returncode}"
            yield f"{why}: {errors.read()[-300:]}"


def _patience_s(asked: Asked) -> float:
    left = asked.until_s - time.time() if asked.until_s is not None else 0.0
    return asked.limit_s + max(0.0, left)


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()
