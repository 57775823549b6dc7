"""Models and lengths, each with its peers: what `make bench` does on a machine with a GPU.

    python -m benchmarks.gpu.matrix --peers-python peers/bin/python

MiniLM's shape, BERT-base, BERT-large and a decoder of a billion parameters as classifiers, with
random weights, on rows of 32, 128 and 512 tokens and on a skewed mix; in bfloat16 on a GPU. A
contestant does all of them in one process, round by round; results are saved after each job.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.gpu import matrix_show
from benchmarks.gpu.matrix_inputs import Cell, cell, make_corpora, make_models
from benchmarks.side_by_side.contestants import ALL, CEILING, ON_GPU, TOKENIZER, chosen
from benchmarks.side_by_side.job import Job, first_only_flops, model_flops, read_config
from benchmarks.side_by_side.processes import Asked, Told, run_jobs

LENGTHS = (32, 128, 512, 0)  # 0: the skewed mix
TOKENS = {"minilm": 8_000_000, "base": 4_000_000, "large": 1_500_000, "decoder-1b": 600_000}
"""Of each corpus, chosen: some seconds of each model on a large GPU."""
OTHER_TOKENS = 200_000
GRACE_S = 20.0
"""What a job that began before the deadline may use beyond it."""
HOLDS_FOR = ("commit", "device", "device_name", "dtype", "torch", "transformers", "peers",
             "threads", "cells")  # fmt: skip


def main() -> None:
    began = time.time()
    args = _arguments()
    cells = list(_cells(args))
    _say(f"{len(cells)} corpora in {args.inputs}")
    make_corpora(cells, args.inputs)
    if args.prepare_only == "corpora":
        return
    device, dtype = _device()
    make_models(dict.fromkeys(c.size for c in cells), args.inputs, device, dtype)
    _say(f"prepared after {time.time() - began:.0f} s")
    if args.prepare_only:
        return
    path = args.resume or args.results / f"{args.name}.json"
    kept = _begun(path, cells, args, (device, dtype))
    until_s = None if args.deadline_s is None else began + args.deadline_s
    Matrix(cells, args, path, kept, until_s).run()
    matrix_show.save(path, kept)
    print(matrix_show.as_text(kept))
    print("written:", path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.matrix", description=(__doc__ or "").splitlines()[0]
    )
    here = Path(__file__).parents[1]
    parser.add_argument("--sizes", nargs="+", default=list(TOKENS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="0: a skewed mix")
    parser.add_argument(
        "--tokens", nargs="+", default=[], metavar="SIZE=N", help="of each corpus of a model, about"
    )
    parser.add_argument("--sample-rows", type=int, default=1_000, help="for the pipeline, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=ON_GPU, metavar="NAME")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--peers-python", default=sys.executable, help="with requirements.txt")
    parser.add_argument("--deadline-s", type=float, help="begin no job after so many seconds")
    parser.add_argument(
        "--prepare-only", nargs="?", choices=("corpora", "all"), const="all",
        help="make corpora, which can be carried to another machine, or models too",
    )  # fmt: skip
    parser.add_argument("--inputs", type=Path, default=here / "results" / "matrix.inputs")
    parser.add_argument("--results", type=Path, default=here / "results" / "gpu")
    parser.add_argument("--name", default=time.strftime("%Y%m%d-%H%M%S"), help="of the results")
    parser.add_argument("--resume", type=Path, help="add rounds to this file of results")
    args = parser.parse_args()
    args.inputs = args.inputs.resolve()
    try:
        args.only = [name for name in chosen(args.only) if ALL[name]]  # none that starts a fleet
        args.tokens = TOKENS | {s: int(n) for s, n in (t.split("=") for t in args.tokens)}
    except (KeyError, ValueError) as error:
        parser.error(f"no contestant of the matrix, or no SIZE=N: {error}")
    return args


def _cells(args: argparse.Namespace) -> Iterator[Cell]:
    for size in args.sizes:
        for length in args.lengths:
            yield cell(size, length, args.tokens.get(size, OTHER_TOKENS), args.sample_rows)


def _device() -> tuple[str, str]:
    import torch

    return ("cuda:0", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")


def _begun(
    path: Path, cells: Sequence[Cell], args: argparse.Namespace, device: tuple[str, str]
) -> dict[str, Any]:
    """The results so far, of the same matrix on the same device.

    Raises:
        SystemExit: the results that are to be added to hold for something else.
    """
    facts = {
        "device": device[0], "device_name": _device_name(), "dtype": device[1],
        "torch": version("torch"), "transformers": version("transformers"),
        "threads": args.threads, "cores": os.cpu_count(),
        "peers": _peers(args.peers_python), "commit": _commit(),
        "cells": {c.name: _facts(c, args.inputs) for c in cells},
    }  # fmt: skip
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in HOLDS_FOR if kept else ():
        if kept["facts"][name] != facts[name]:
            raise SystemExit(f"these results hold for another {name}: {kept['facts'][name]}")
    return {"runs": {}, "missing": {}, **kept, "facts": facts}


def _facts(own: Cell, inputs: Path) -> dict[str, Any]:
    lengths = Job(str(own.corpus(inputs)), "", "", 1).lengths() or []
    config = read_config(str(own.model(inputs)))
    return {
        "size": own.size, "length": own.length, "rows": len(lengths), "tokens": sum(lengths),
        "sample_rows": own.sample_rows, "useful_flops": model_flops(config, lengths),
        "useful_flops_first_only": first_only_flops(config, lengths),
    }  # fmt: skip


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _peers(python: str) -> dict[str, str]:
    """Versions that the peers run with."""
    names = ("torch", "transformers", "sentence-transformers", "tokenizers")
    code = (
        "import importlib.metadata as m, json, sys\n"
        "have = {d.metadata['Name'] for d in m.distributions()}\n"
        "print(json.dumps({n: m.version(n) for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _commit() -> str:
    """Of what is measured; "unknown" outside a checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parent, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass
class Matrix:
    cells: Sequence[Cell]
    args: argparse.Namespace
    path: Path
    kept: dict[str, Any]
    until_s: float | None

    def run(self) -> None:
        for number in range(self.args.rounds):
            for name in self.args.only:
                if self.until_s is not None and time.time() > self.until_s:
                    _say(f"deadline: {name} of round {number + 1} and what follows are left out")
                    return
                if ALL[name].on_gpu or self.kept["facts"]["device"] == "cpu":
                    self._contestant(name, number)

    def _contestant(self, name: str, number: int) -> None:
        cells = _those_that_differ(name, self.cells)
        jobs = [self._job(name, own) for own in cells]
        python = self.args.peers_python if ALL[name].is_peer else sys.executable
        grace = {} if self.until_s is None else {"limit_s": GRACE_S}
        for told in run_jobs(name, jobs, Asked(python, until_s=self.until_s, **grace)):
            key = cells[told.job].size if name == CEILING else cells[told.job].name
            _say(f"round {number + 1}: {name} {key}: {self._keep(key, name, told)}")
            matrix_show.save(self.path, self.kept)

    def _job(self, name: str, own: Cell) -> Job:
        facts, inputs = self.kept["facts"], self.args.inputs
        corpus = own.sample(inputs) if ALL[name].sampled else own.corpus(inputs)
        (inputs / "output").mkdir(exist_ok=True)
        return Job(
            str(corpus), str(own.model(inputs)),
            str(inputs / "output" / f"{name}-{own.name}.parquet"), self.args.threads,
            facts["device"], facts["dtype"], cache=str(inputs / "models" / own.size),
        )  # fmt: skip

    def _keep(self, key: str, name: str, told: Told) -> str:
        """What it came to, in words."""
        missing = self.kept["missing"].setdefault(key, {})
        if told.outcome is None:
            why = f"not installed: {told.missing}" if told.missing else told.failed
            missing[name] = why[-300:].replace("\n", " ").replace("|", "/")
            return missing[name]
        missing.pop(name, None)
        run = dict(told.outcome) | {"at": time.strftime("%H:%M:%S")}
        self.kept["runs"].setdefault(key, {}).setdefault(name, []).append(run)
        if name == CEILING:
            return f"{run['flops'] / run['seconds'] / 1e12:.1f} TFLOP/s"
        return f"{run['seconds']:.2f} s, {run['rows'] / run['seconds']:,.0f} rows a second"


def _those_that_differ(name: str, cells: Sequence[Cell]) -> list[Cell]:
    """Products depend on the model alone; the tokenizer is the same for all, its rows as well."""
    if name == CEILING:
        return list({own.size: own for own in reversed(cells)}.values())[::-1]
    if name == TOKENIZER:
        most = sorted(cells, key=lambda own: own.rows)
        return list({own.length: own for own in most}.values())
    return list(cells)


if __name__ == "__main__":
    main()
