"""The whole fleet on the job: `headrace run` with its queue, leases, commits and spans."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.dataset as ds

from benchmarks.job import Job


def run_fleet(job: Job, rows: int, chunk_rows: int) -> dict[str, float]:
    """From the first chunk's start to the last one's end, by the job's own traces.

    Loading is not in it, as it is not in the engine's time; a worker of `job.threads` threads.
    """
    output = Path(job.output).with_suffix(".fleet")
    flags = ["--workers", "1", "--device", job.device, "--chunk-rows", str(chunk_rows)]
    model = ["--model", job.model, "--max-length", "512"]
    _run(["run", job.corpus, "--output", str(output), *model, *flags], job.threads)
    seconds = _traced_s(output)
    return {"seconds": seconds, "rows": rows}


def run_empty(corpus: str, output: Path, chunks: int, rows: int) -> dict[str, float]:
    """Chunks of a task that computes next to nothing: what one message costs, from end to end."""
    size = max(1, rows // chunks)
    flags = ["--task", "fake", "--workers", "1", "--chunk-rows", str(size)]
    _run(["run", corpus, "--output", str(output), *flags], 1)
    done = len(list((output / "data").glob("*.parquet")))
    seconds = _traced_s(output)
    return {"seconds": seconds, "rows": rows, "chunks": done, "s_per_chunk": seconds / done}


def _run(arguments: Sequence[str], threads: int) -> None:
    environment = os.environ | {"HEADRACE_THREADS": str(threads)}
    code = "import sys; from producers.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1_800)
    if done.returncode:
        raise RuntimeError(
            f"headrace {arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}"
        )


def _traced_s(output: Path) -> float:
    spans = ds.dataset(output / "_traces", format="parquet").to_table(
        columns=["start_time_unix_nano", "duration_nano", "parent_span_id", "name"]
    )
    roots = [s for s in spans.to_pylist() if s["parent_span_id"] is None and "process" in s["name"]]
    start = min(s["start_time_unix_nano"] for s in roots)
    stop = max(s["start_time_unix_nano"] + s["duration_nano"] for s in roots)
    return float(stop - start) / 1e9
