"""headrace and its peers on one job, side by side: `make bench`, `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.fleet.empty_celery import time_empty_tasks
from benchmarks.fleet.fleet import run_empty, run_fleet
from benchmarks.fleet.pinning import Pin
from benchmarks.side_by_side import show
from benchmarks.side_by_side.contestants import (
    ALL,
    BARE,
    CELERY,
    DEFAULT,
    EMPTY,
    FLEET,
    HEADRACE,
    chosen,
)
from benchmarks.side_by_side.inputs import split
from benchmarks.side_by_side.job import Job
from benchmarks.side_by_side.prepare import facts_of, prepare
from benchmarks.side_by_side.processes import Asked, run_jobs

EMPTY_CHUNK_ROWS = 40  # small, so that what a chunk costs is not what its rows cost


def main() -> None:
    args = _arguments()
    path = args.resume or args.results / f"{args.name}.json"
    job, sample = prepare(args, path)
    kept = show.load(path) or {"runs": {}, "missing": {}}
    facts = facts_of(job, args, kept.get("facts"))
    for number in range(args.rounds):
        for name in args.only:
            own = sample if name in ALL and ALL[name].sampled else job
            _one(name, own, args, kept, number)
            show.save(path, facts | {"load_at_end": os.getloadavg()[0]}, kept)
    print(show.as_text(show.load(path)))
    print("written:", path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", default=DEFAULT, metavar="NAME", help="contestants or families"
    )
    parser.add_argument("--corpus", type=Path, nargs="+", help="Parquet with a column text")
    parser.add_argument("--longest", type=int, help="only texts of at most so many characters")
    parser.add_argument("--length", type=int, help="instead: rows of about so many tokens each")
    parser.add_argument("--sample-rows", type=int, default=400, help="for the pipeline")
    parser.add_argument("--model", type=Path, help="folder of a text classifier")
    parser.add_argument(
        "--size", help="of a model with random weights, see benchmarks.side_by_side.inputs"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=1, help="of the fleet, --threads each")
    parser.add_argument("--chunk-rows", type=int, help="of the fleet; default: as headrace plans")
    parser.add_argument("--worker-cores", default="", help="keep the fleet's workers there: 1,2")
    parser.add_argument("--rest-cores", default="", help="and everything else of it there: 0")
    parser.add_argument("--peers-python", default=sys.executable, help="with requirements.txt")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default=time.strftime("%Y%m%d-%H%M%S"), help="of the results")
    parser.add_argument("--resume", type=Path, help="add rounds to this file of results")
    args = parser.parse_args()
    try:
        args.only = chosen(args.only)
    except KeyError as error:
        parser.error(f"no contestant is called {error}; they are {', '.join(ALL)}")
    return args


def _one(name: str, job: Job, args: argparse.Namespace, kept: dict[str, Any], number: int) -> None:
    runs, missing = kept["runs"], kept["missing"]
    if name in ALL and not ALL[name].on_gpu and job.device != "cpu":
        return
    stem = f"{name}-{len(runs.get(name, ()))}."
    job = replace(job, output=job.output.replace("output.", stem))
    try:
        found = _run(name, job, args)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        missing[name] = str(error)[-300:].replace("\n", " ").replace("|", "/")
        print(f"{name}: {missing[name]}", file=sys.stderr)
        return
    if "missing" in found:
        missing[name] = f"not installed: {found['missing']}"
        return
    missing.pop(name, None)
    runs.setdefault(name, []).append(found | {"at": time.strftime("%H:%M:%S")})
    print(f"round {number + 1}: {name} {found['seconds']:.2f} s", file=sys.stderr, flush=True)


def _run(name: str, job: Job, args: argparse.Namespace) -> dict[str, Any]:
    pin = Pin(_cores(args.worker_cores), _cores(args.rest_cores))
    if name == BARE:
        return _bare(job, args)
    if name == FLEET:
        return run_fleet(job, args.rows, args.workers, args.chunk_rows, pin)
    if name == EMPTY:
        output = Path(job.output).with_suffix(".fake")
        return run_empty(job.corpus, output, args.rows, EMPTY_CHUNK_ROWS, pin)
    if name == CELERY:
        return time_empty_tasks(pin)
    return _in_own_process(name, job, args)


def _bare(job: Job, args: argparse.Namespace) -> dict[str, Any]:
    """As many engines as the fleet has workers, each in a process of its own on its share of rows.

    `seconds` is what all rows would take at the sum of their speeds.
    """
    folder = Path(job.cache) / f"shares-{args.workers}"
    split(Path(job.corpus), folder, args.workers)
    jobs = [
        replace(job, corpus=str(share), output=f"{job.output}.{n}")
        for n, share in enumerate(sorted(folder.iterdir()))
    ]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda own: _in_own_process(HEADRACE, own, args), jobs))
    rows = sum(run["rows"] for run in found)
    speed = sum(run["rows"] / run["seconds"] for run in found)
    return {"seconds": rows / speed, "rows": rows, "engines": len(found),
            "tokens": sum(run["tokens"] for run in found)}  # fmt: skip


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(core) for core in text.split(",") if core)


def _in_own_process(name: str, job: Job, args: argparse.Namespace) -> dict[str, Any]:
    own = {"HEADRACE_BENCH_WORKER_CORES": args.worker_cores,
           "HEADRACE_BENCH_REST_CORES": args.rest_cores}  # fmt: skip
    if name.startswith("ray"):  # one actor a worker of the fleet, of one thread each
        job = replace(job, threads=args.workers * args.threads)
    python = args.peers_python if ALL[name].is_peer else sys.executable
    (told,) = run_jobs(name, [job], Asked(python, own))
    if told.missing:
        return {"missing": told.missing}
    if told.outcome is None:
        raise RuntimeError(told.failed)
    return dict(told.outcome)


if __name__ == "__main__":
    main()
