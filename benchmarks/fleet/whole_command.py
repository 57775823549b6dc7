"""A small job as a whole command: `headrace run`, and two scripts that a person would write.

    python -m benchmarks.fleet.whole_command --corpus reviews.parquet --model minilm-sst2 --rows 2000

Each is a cold process, from its start to the file with the result, imports and model included; all
are run in turn. Seconds of processor time are those of the command and of every process that it
started and waited for. On a busy machine compare these. A script has the same threads and malloc
settings as a worker. sentence-transformers makes embeddings, so `headrace run` does so beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.fleet.fleet import environment, run_command
from benchmarks.side_by_side.inputs import small_job
from workers.devices.device import CPU, worker_environment

READ = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
corpus, model, output, batch = *sys.argv[1:4], int(sys.argv[4])
table = pq.read_table(corpus, columns=["id", "text"])
texts = table["text"].to_pylist()
"""
PIPELINE = (
    READ
    + """
from transformers import pipeline
score = pipeline("text-classification", model=model, device="cpu")
found = score(texts, batch_size=batch, truncation=True, max_length=512)
columns = {"label": [f["label"] for f in found], "score": [f["score"] for f in found]}
pq.write_table(pa.table({"id": table["id"], **columns}), output, compression="zstd")
"""
)
SENTENCES = (
    READ
    + """
from sentence_transformers import SentenceTransformer
found = SentenceTransformer(model, device="cpu").encode(texts, batch_size=batch)
vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])
pq.write_table(pa.table({"id": table["id"], "embedding": vectors}), output, compression="zstd")
"""
)


def main() -> None:
    args = _arguments()
    with small_job(args.corpus, args.model, args.rows, "whole") as (folder, corpus, model):
        found: dict[str, list[tuple[float, float]]] = {}
        for number in range(args.rounds):
            for who, command in _commands(args, corpus, model, folder / str(number)).items():
                if not args.only or who in args.only:
                    found.setdefault(who, []).append(_timed(command, args))
                    print(who, *(f"{s:.2f}" for s in found[who][-1]), file=sys.stderr)
    print(json.dumps({who: _medians(times) for who, times in found.items()}, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.whole_command",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of a worker, and of a script")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a script's batch")
    parser.add_argument("--peers-python", default=sys.executable, help="runs the scripts")
    parser.add_argument("--only", nargs="*", default=[], help="these alone, by their names")
    return parser.parse_args()


def _commands(
    args: argparse.Namespace, corpus: Path, model: Path, at: Path
) -> dict[str, list[str]]:
    """The commands of a round by their names; each writes an output of its own."""
    more = ["--model", str(model), "--workers", str(args.workers), "--max-length", "512"]
    script = [str(corpus), str(model), f"{at}.parquet", str(args.batch_size)]
    embed = ["--task", "feature-extraction"]
    return {
        "headrace, embeddings": run_command(str(corpus), f"{at}-embed", *more, *embed),
        "sentence-transformers": [args.peers_python, "-c", SENTENCES, *script],
        "headrace, labels": run_command(str(corpus), f"{at}-label", *more),
        "pipeline": [args.peers_python, "-c", PIPELINE, *script],
    }


def _timed(command: Sequence[str], args: argparse.Namespace) -> tuple[float, float]:
    """Seconds from start to end, and seconds of processor time of the command and its children."""
    env = environment(args.threads)
    if command[0] == args.peers_python and "run" not in command:
        env = os.environ | worker_environment(CPU, args.threads) | {"HF_HUB_OFFLINE": "1"}
    before, began = _processor_s(), time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.perf_counter() - began, _processor_s() - before


def _processor_s() -> float:
    """Of all children that have ended, and those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _medians(times: list[tuple[float, float]]) -> dict[str, float]:
    walls, processor = zip(*times, strict=True)
    return {"wall_s": round(median(walls), 2), "processor_s": round(median(processor), 2)}


if __name__ == "__main__":
    main()
