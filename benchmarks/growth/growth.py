"""How cost grows: time, memory and Redis traffic against rows, workers and file sizes.

    python -m benchmarks.growth.growth --rows 10000 100000 --resume growth.json
    python -m benchmarks.growth.growth --workers 1 2 4 8 --files 1e3 1e6 1e9 --billion --resume growth.json

Real jobs of the fake task, which computes next to nothing, through the whole fleet and a Redis that
is asked afterwards what it did; only `--billion` is simulated (see `benchmarks.growth.billion`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fleet.fleet import WORKER, environment, run_command
from benchmarks.fleet.pinning import descendants
from benchmarks.fleet.startup import high_water_mb
from benchmarks.growth import billion
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect

CHUNK_ROWS = 10_000  # so that 10 million rows are 1,000 chunks
WORKERS_ROWS = 200_000
FILE_ROWS_BYTES = 1_000  # of one row's text, where files grow
FILES_BYTES = 100_000_000  # of the corpus, where files grow and one is not larger
MOST_FILES = 2_000
BATCH_ROWS = 100_000


def main() -> None:
    args = _arguments()
    found: dict[str, Any] = json.loads(args.resume.read_text()) if args.resume.exists() else {}
    for axis, points in (("rows", args.rows), ("workers", args.workers), ("files", args.files)):
        for point in points:
            with tempfile.TemporaryDirectory(prefix="headrace-growth-", dir=args.scratch) as name:
                result = _measure(axis, int(float(point)), Path(name))
            found.setdefault(axis, []).append(result)
            print(axis, json.dumps(result), flush=True)
            _save(args.resume, found)
    if args.billion:
        found["billion"] = billion.in_own_process(args.billion_rows)
        print("billion", json.dumps(found["billion"]))
        _save(args.resume, found)
    if found:
        plot(found, args.resume.with_suffix(".svg"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth.growth", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rows", nargs="*", default=[], help="of a job, one worker")
    parser.add_argument("--workers", nargs="*", default=[], help=f"on {WORKERS_ROWS:,} rows")
    parser.add_argument("--files", nargs="*", default=[], help="bytes of a file")
    parser.add_argument("--billion", action="store_true", help="planner and publisher, simulated")
    parser.add_argument("--billion-rows", type=int, default=1_000_000_000)
    parser.add_argument("--resume", type=Path, default=Path("growth.json"), help="kept there")
    parser.add_argument("--scratch", type=Path, help="folder for corpora and outputs")
    return parser.parse_args()


def _save(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _measure(axis: str, point: int, folder: Path) -> dict[str, Any]:
    workers, rows, corpus = 1, point, folder / "corpus"
    corpus.mkdir()
    if axis == "files":
        rows = _write_files(corpus, point)
    else:
        if axis == "workers":
            workers, rows = point, WORKERS_ROWS
        _write(corpus / "all.parquet", rows, "row number {}")
    files = list(corpus.iterdir())
    size = sum(path.stat().st_size for path in files)
    run = run_once(corpus, folder / "output", workers)
    return {"x": point, "job_rows": rows, "files": len(files), "bytes": size, **run}


def _write_files(corpus: Path, size: int) -> int:
    """Files of about `size` bytes: as many as make 100 MB, one at least; returns their rows."""
    rows = max(1, size // FILE_ROWS_BYTES)
    count = min(MOST_FILES, max(1, FILES_BYTES // size))
    for n in range(count):
        _write(corpus / f"part-{n:05}.parquet", rows, "{} " + "x" * (FILE_ROWS_BYTES - 8))
    return rows * count


def _write(path: Path, rows: int, text: str) -> None:
    """Not compressed: a file's bytes are its text's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, BATCH_ROWS):
            texts = [text.format(n) for n in range(start, min(rows, start + BATCH_ROWS))]
            writer.write_table(pa.table({"text": texts}, schema=schema))


def run_once(corpus: Path, output: Path, workers: int) -> dict[str, float]:
    """A job of the fake task, and what command, worker and Redis used for it."""
    flags = ["--task", "fake", "--max-length", "16", "--workers", str(workers)]
    flags += ["--chunk-rows", str(CHUNK_ROWS)]
    with EmbeddedRedis() as server:
        client = connect(server.url, name="growth")
        before = dict(_traffic(client))
        began = time.time()
        process = subprocess.Popen(
            run_command(str(corpus), str(output), *flags, "--broker", server.url),
            env=environment(1), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        command_mb = worker_mb = 0.0
        while process.poll() is None:
            command_mb = max(command_mb, high_water_mb(process.pid))
            for pid, _ in descendants(process.pid, WORKER):
                worker_mb = max(worker_mb, high_water_mb(pid))
            time.sleep(0.2)
        wall = time.time() - began
        if process.returncode:
            errors = process.stderr.read() if process.stderr else ""
            raise RuntimeError(f"headrace run ended with {process.returncode}: {errors[-500:]}")
        used = {name: after - before[name] for name, after in _traffic(client)}
        redis_mb = int(client.info("memory")["used_memory_peak"]) / 2**20
    chunks = len(list((output / "data").glob("*.parquet")))
    return {
        "wall_s": round(wall, 2), "chunks": chunks, "command_mb": round(command_mb),
        "worker_mb": round(worker_mb), "redis_mb": round(redis_mb, 1),
        **{name: round(value, 2) for name, value in used.items()},
    }  # fmt: skip


def _traffic(client: Any) -> Iterator[tuple[str, float]]:
    stats, cpu = client.info("stats"), client.info("cpu")
    yield "redis_commands", float(stats["total_commands_processed"])
    yield "redis_bytes_in", float(stats["total_net_input_bytes"])
    yield "redis_bytes_out", float(stats["total_net_output_bytes"])
    yield "redis_cpu_s", float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def plot(found: dict[str, Any], to: Path) -> None:
    """Three curves for each axis: time, memory, Redis."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    axes = [axis for axis in ("rows", "workers", "files") if axis in found]
    if not axes:
        return
    figure = Figure(figsize=(10, 2.8 * len(axes)), layout="constrained")
    grid = figure.subplots(len(axes), 3, squeeze=False)
    labels = {"rows": "rows", "workers": "workers", "files": "bytes of a file"}
    for row, axis in zip(grid, axes, strict=True):
        points = sorted(found[axis], key=lambda p: float(p["x"]))
        x = [p["x"] for p in points]
        for panel, names, unit in zip(row, _PANELS, ("s", "MB", "of Redis"), strict=True):
            for name, label in names.items():
                panel.plot(x, [p[name] for p in points], marker="o", label=label)
            panel.set_xlabel(labels[axis])
            panel.set_ylabel(unit)
            panel.set_xscale("log", base=2 if axis == "workers" else 10)
            panel.legend(fontsize=7)
            if unit == "of Redis":
                panel.set_yscale("log")
            else:
                panel.set_ylim(bottom=0)
    figure.savefig(to)


_PANELS = (
    {"wall_s": "whole command"},
    {"worker_mb": "worker", "command_mb": "command with controller", "redis_mb": "Redis"},
    {"redis_commands": "commands", "redis_bytes_in": "bytes in", "redis_bytes_out": "bytes out"},
)


if __name__ == "__main__":
    sys.exit(main())
