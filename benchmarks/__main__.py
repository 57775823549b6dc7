"""headrace and its peers on one job, side by side: `make bench`, `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import show
from benchmarks.contestants import ALL
from benchmarks.fleet import run_empty, run_fleet
from benchmarks.inputs import SIZES, make_model, take_corpus
from benchmarks.job import MALLOC, Job, model_flops, read_config

FLEET, EMPTY = "fleet", "fleet-fake-task"
LIMIT_S = 1_200


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        job = _prepare(args, Path(folder))
        runs: dict[str, list[dict[str, float]]] = {}
        missing: dict[str, str] = {}
        for number in range(args.rounds):
            for name in args.only or [*ALL, FLEET, EMPTY]:
                if name not in missing:
                    _one(name, job, args, runs, missing, number)
            facts = _facts(job, args)  # after each round, so that one cut short leaves something
            facts["table"] = show.summarize(runs, facts["useful_flops"], missing)
            path = show.save(args.results, args.name, facts)
    print(show.as_text(facts["table"]))
    print("written:", path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*ALL, FLEET, EMPTY], metavar="NAME")
    parser.add_argument("--corpus", type=Path, help="Parquet with a column text")
    parser.add_argument("--model", type=Path, help="folder of a BERT text classifier")
    parser.add_argument("--size", choices=SIZES, help="of the model with random weights")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--chunk-rows", type=int, default=2_000, help="of the whole fleet's chunks")
    parser.add_argument("--peers-python", default=sys.executable, help="with requirements.txt")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default=time.strftime("%Y%m%d-%H%M%S"), help="of the results")
    return parser.parse_args()


def _prepare(args: argparse.Namespace, folder: Path) -> Job:
    import torch

    gpu = torch.cuda.is_available()
    corpus, model = folder / "corpus.parquet", args.model
    take_corpus(args.corpus, args.rows, corpus)
    if model is None:
        model = folder / "model"
        make_model(model, args.size or ("base" if gpu else "minilm"))
    device, dtype = ("cuda:0", "bfloat16") if gpu else ("cpu", "float32")
    output = str(folder / "output.parquet")
    return Job(str(corpus), str(model), output, args.threads, device, dtype)


def _one(
    name: str,
    job: Job,
    args: argparse.Namespace,
    runs: dict[str, list[dict[str, float]]],
    missing: dict[str, str],
    number: int,
) -> None:
    job = replace(job, output=job.output.replace("output.", f"{name}-{number}."))
    try:
        if name == FLEET:
            found = run_fleet(job, args.rows, args.chunk_rows)
        elif name == EMPTY:
            found = run_empty(job.corpus, Path(job.output).with_suffix(".fake"), 50, args.rows)
        else:
            found = _in_own_process(name, job, args)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        missing[name] = str(error)[-200:].replace("\n", " ").replace("|", "/")
        print(f"{name}: {missing[name]}", file=sys.stderr)
        return
    if "missing" in found:
        missing[name] = f"not installed: {found['missing']}"
        return
    runs.setdefault(name, []).append(found)
    print(f"round {number + 1}: {name} {found['seconds']:.2f} s", file=sys.stderr, flush=True)


def _in_own_process(name: str, job: Job, args: argparse.Namespace) -> dict[str, Any]:
    threads = {n: str(job.threads) for n in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    own = {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", **threads}
    python = args.peers_python if ALL[name].is_peer else sys.executable
    done = subprocess.run(
        [python, "-m", "benchmarks.contestants", name, json.dumps(asdict(job))],
        env=os.environ | MALLOC | own, capture_output=True, text=True, timeout=LIMIT_S,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr[-300:]}")
    outcome: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return outcome


def _facts(job: Job, args: argparse.Namespace) -> dict[str, Any]:
    """What the figures hold for, and the operations that the job needs."""
    from transformers import AutoTokenizer

    texts = job.read()[1]
    ids = AutoTokenizer.from_pretrained(job.model)(texts, truncation=True, max_length=512)
    lengths = sorted(len(row) for row in ids["input_ids"])
    return {
        "rows": len(texts), "tokens": sum(lengths), "median_tokens": lengths[len(lengths) // 2],
        "corpus": args.corpus.name if args.corpus else "generated reviews",
        "model": args.model.name if args.model else f"random {args.size or 'default'}",
        "threads": args.threads, "rounds": args.rounds, "device": job.device, "dtype": job.dtype,
        "load_at_end": os.getloadavg()[0], "cores": os.cpu_count(),
        "useful_flops": model_flops(read_config(job.model), lengths),
    }  # fmt: skip


if __name__ == "__main__":
    main()
