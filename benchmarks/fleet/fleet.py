"""The whole fleet on the job: `headrace run` with its queue, leases, commits and spans."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from benchmarks.fleet.pinning import Pin, keeping
from benchmarks.side_by_side.job import Job

RUN = "import sys; from producers.cli import main; sys.exit(main())"
WORKER = "billiard.spawn"  # the child that computes; its parent receives
LIMIT_S = 3_600


def run_fleet(
    job: Job, rows: int, workers: int, chunk_rows: int | None, pin: Pin
) -> dict[str, Any]:
    """`seconds`: from the first chunk's start to the last one's end, by the job's own traces.

    Loading is not in it, as it is not in the engine's time. `wall_s` is the whole command, from
    the start of a cold process to its end; `startup_s` the part of it before the first chunk.
    """
    output = Path(job.output).with_suffix(".fleet")
    flags = ["--workers", str(workers), "--device", job.device, "--model", job.model]
    if chunk_rows:
        flags += ["--chunk-rows", str(chunk_rows)]
    began = time.time()
    _run(run_command(job.corpus, str(output), *flags, "--max-length", "512"), job.threads, pin)
    wall = time.time() - began
    start, stop, chunks = _traced(output)
    return {"seconds": stop - start, "rows": rows, "chunks": chunks, "workers": workers,
            "wall_s": wall, "startup_s": start - began}  # fmt: skip


def run_empty(corpus: str, output: Path, rows: int, chunk_rows: int, pin: Pin) -> dict[str, Any]:
    """Chunks of a task that computes next to nothing: what one chunk costs, from end to end."""
    flags = ["--task", "fake", "--workers", "1", "--chunk-rows", str(chunk_rows)]
    began = time.time()
    _run(run_command(corpus, str(output), *flags), 1, pin)
    wall = time.time() - began
    start, stop, done = _traced(output)
    return {"seconds": stop - start, "rows": rows, "chunks": done, "wall_s": wall,
            "ms_each": 1e3 * (stop - start) / done}  # fmt: skip


def run_command(corpus: str, output: str, *flags: str) -> list[str]:
    return [sys.executable, "-c", RUN, "run", corpus, "--output", output, *flags, "--json"]


def environment(threads: int) -> dict[str, str]:
    """Threads of a worker as the fleet's own setting gives them; every CPU has them all."""
    return os.environ | {"HEADRACE_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def _run(command: Sequence[str], threads: int, pin: Pin) -> None:
    process = subprocess.Popen(
        [*pin.command(), *command], env=environment(threads),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with keeping(process.pid, WORKER, pin):
        _, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        raise RuntimeError(f"headrace run ended with {process.returncode}: {errors[-500:]}")


def spans_of(output: Path) -> list[dict[str, Any]]:
    """The job's own spans, as they stand in its output."""
    columns = ["start_time_unix_nano", "duration_nano", "parent_span_id", "name"]
    found: list[dict[str, Any]] = (
        ds.dataset(output / "_traces", format="parquet").to_table(columns=columns).to_pylist()
    )
    return found


def _traced(output: Path) -> tuple[float, float, int]:
    """Start of the first chunk, end of the last, and how many there were."""
    roots = [s for s in spans_of(output) if s["name"].startswith("process")]
    start = min(s["start_time_unix_nano"] for s in roots) / 1e9
    stop = max(s["start_time_unix_nano"] + s["duration_nano"] for s in roots) / 1e9
    return start, stop, len(roots)
