"""From `headrace run` to the first row on the device, and what a worker holds in memory.

    python -m benchmarks.fleet.startup --corpus docs.parquet --model minilm-sst2

Each round starts two cold processes on a warm page cache: a bare one that imports torch and
transformers and loads the same model and tokenizer, and `headrace run`. What `headrace run` takes
beyond the bare one is ours. Memory is the worker's peak of resident pages (VmHWM), less the bare
process after its imports and less the size of the weights, for a small and a large chunk.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import producers
import schemas
import workers
from benchmarks.fleet.fleet import WORKER, environment, run_command, spans_of
from benchmarks.fleet.pinning import descendants
from benchmarks.side_by_side.inputs import small_job, take_corpus
from workers.devices.device import device_inside, worker_environment

BARE = """
import json, sys, time
def told(key, pages=None):
    with open("/proc/self/status") as f: found = f.read()
    resident = next(int(l.split()[1]) / 1024 for l in found.splitlines() if l.startswith("VmRSS"))
    out[key + "_s"], out[key + "_mb"] = time.time() - float(sys.argv[2]), resident
out = {}
import torch, transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import PreTrainedTokenizerFast, BertForSequenceClassification
told("imports")
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
dtype = torch.float32 if sys.argv[3] == "cpu" else torch.bfloat16
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], dtype=dtype).eval()
model.to(sys.argv[3])
told("loaded")
with torch.inference_mode():
    model(**tokenizer(["a row"], return_tensors="pt").to(sys.argv[3])).logits.cpu()
told("first")
print(json.dumps(out))
"""


def main() -> None:
    args = _arguments()
    compile_ours()
    with small_job(args.corpus, args.model, args.rows, "startup") as (folder, corpus, model):
        found: dict[str, Any] = {"rounds": [], "memory": []}
        for number in range(args.rounds):
            bare = run_bare(model, args.threads, args.device)
            at = folder / f"out-{number}"
            ours = run_once(corpus, model, at, args.rows, args.threads, args.device)
            found["rounds"].append({"bare": bare, "headrace": ours})
        for rows in args.chunks:
            at = folder / f"chunk-{rows}"
            take_corpus(args.corpus, rows, corpus)
            run = run_once(corpus, model, at, rows, args.threads, args.device)
            found["memory"].append({"chunk_rows": rows, "peak_mb": run["worker_peak_mb"]})
        found["summary"] = summarize(found, weights_mb(model))
    text = json.dumps(found, indent=1)
    if args.to:
        args.to.write_text(text + "\n")
    print(text if args.verbose else json.dumps(found["summary"], indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.startup", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, nargs="*", default=[], help="rows, for memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:0 in bfloat16")
    parser.add_argument("--to", type=Path, help="write all of it there, as JSON")
    parser.add_argument("--verbose", action="store_true", help="print each round too")
    return parser.parse_args()


def compile_ours() -> None:
    """Bytecode of our own modules, which an installed package comes with, and torch has."""
    for package in (schemas, producers, workers):
        compileall.compile_dir(package.__path__[0], quiet=1)


def run_bare(model: Path, threads: int, device: str) -> dict[str, float]:
    """Seconds from the start of the process, and resident MB: imports, loaded, first row."""
    env = os.environ | worker_environment(device, threads) | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(model), repr(time.time()), device_inside(device)],
        env=env, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_once(
    corpus: Path, model: Path, output: Path, chunk_rows: int, threads: int, device: str
) -> dict[str, float]:
    """Seconds from the start of `headrace run` to each step of its one worker, and its peak."""
    command = run_command(
        str(corpus), str(output), "--model", str(model), "--max-length", "512", "--workers", "1",
        "--device", device, "--chunk-rows", str(chunk_rows),
    )  # fmt: skip
    began = time.time()
    process = subprocess.Popen(
        command, env=environment(threads), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    watch = _Watch(process.pid)
    watch.start()
    _, errors = process.communicate(timeout=1_800)
    watch.stopping.set()
    watch.join()
    if process.returncode:
        raise RuntimeError(f"headrace run ended with {process.returncode}: {errors[-500:]!r}")
    spans = spans_of(output)
    at = {kind: _start(spans, kind) - began for kind in ("job", "send", "process", "forward")}
    return {
        "planned_s": at["job"], "published_s": at["send"], "worker_process_s": watch.seen_s - began,
        "chunk_taken_s": at["process"], "first_row_s": at["forward"],
        "whole_s": time.time() - began, "worker_peak_mb": watch.peak_mb,
    }  # fmt: skip


def _start(spans: list[dict[str, Any]], kind: str) -> float:
    found = [s["start_time_unix_nano"] for s in spans if s["name"].split(" ")[0] == kind]
    return float(min(found)) / 1e9


class _Watch(threading.Thread):
    """When the worker's process was first there, and its peak of resident memory."""

    def __init__(self, parent: int) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.seen_s = self.peak_mb = 0.0
        self._parent = parent

    def run(self) -> None:
        workers: dict[int, float] = {}  # Celery gives its process another title once it runs
        while not self.stopping.wait(0.05):
            for pid, born_s in descendants(self._parent, WORKER):
                workers.setdefault(pid, born_s)
            self.seen_s = min(workers.values(), default=0.0)
            self.peak_mb = max([self.peak_mb, *map(high_water_mb, workers)])


def high_water_mb(pid: int) -> float:
    """VmHWM of a process; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def weights_mb(model: Path) -> float:
    return sum(path.stat().st_size for path in model.glob("*.safetensors")) / 2**20


def summarize(found: dict[str, Any], model_mb: float) -> dict[str, Any]:
    """Medians; `ours_s` is what `headrace run` takes beyond imports and loading."""
    bare = {k: median(r["bare"][k] for r in found["rounds"]) for k in found["rounds"][0]["bare"]}
    ours = {
        k: median(r["headrace"][k] for r in found["rounds"]) for k in found["rounds"][0]["headrace"]
    }
    above = {
        m["chunk_rows"]: round(m["peak_mb"] - bare["imports_mb"] - model_mb)
        for m in found["memory"]
    }
    return {
        "bare": {k: round(v, 2) for k, v in bare.items()},
        "headrace": {k: round(v, 2) for k, v in ours.items()},
        "ours_s": round(ours["first_row_s"] - bare["loaded_s"], 2),
        "model_mb": round(model_mb),
        "above_model_and_imports_mb": {
            "of the rounds": round(ours["worker_peak_mb"] - bare["imports_mb"] - model_mb),
            **above,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
