"""The synchronous worker under load, beside the engine alone and FastAPI around a pipeline.

    python -m benchmarks.gateway.single_requests --model DIR --texts FILE.parquet --column text

One text a request, one thread of computing. Contestants, by turns: `headrace-worker serve`, and an
application of FastAPI that calls transformers' pipeline. Each is asked by one client (its median is
held against a bare forward) and by 64 (requests a second, by the clock and for each second of the
server's processor time, held against the engine on the same texts). Servers keep to the first core,
clients to the second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from benchmarks.gateway.million import BIN, processor_s, started
from tests.conftest import free_port

SERVER_CORE, CLIENT_CORE = 0, 1
CLIENTS = 64

PIPELINE = """
import sys
import torch
torch.set_num_threads(1)
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

scorer = pipeline("text-classification", model=sys.argv[1], device="cpu")
app = FastAPI()

class Body(BaseModel):
    input: list[str]

@app.post("/v1/classify")
def classify(body: Body):
    return {"data": scorer(body.input, truncation=True)}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""

ALONE = """
import json, sys, time
import pyarrow.parquet as pq
import torch
torch.set_num_threads(1)
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from headrace.settings import load_settings
from workers.devices.device import set_threads
from workers.online.model import load_online

model, path, column, count = sys.argv[1:5]
texts = pq.read_table(path, columns=[column])[column].slice(0, int(count)).to_pylist()
set_threads("cpu", 1)
online = load_online(load_settings(model=model, task="text-classification", device="cpu"))
requests = [online.prepare(texts[i : i + 64]) for i in range(0, len(texts), 64)]
tokenizer = AutoTokenizer.from_pretrained(model)
bare = AutoModelForSequenceClassification.from_pretrained(model).eval()
print("ready", flush=True)
for line in sys.stdin:
    began, used = time.perf_counter(), time.process_time()
    for i in range(0, len(texts), 64):
        online.compute([online.prepare(texts[i : i + 64])])
    rows = len(texts) / (time.perf_counter() - began), len(texts) / (time.process_time() - used)
    alone = []
    with torch.inference_mode():
        for text in texts[:200]:
            began = time.perf_counter()
            bare(**tokenizer(text, truncation=True, return_tensors="pt")).logits.softmax(-1).tolist()
            alone.append((time.perf_counter() - began) * 1e3)
    print(json.dumps({"rows_per_s": rows[0], "rows_per_processor_s": rows[1],
                      "bare_p50_ms": sorted(alone)[len(alone) // 2]}), flush=True)
"""


def main() -> None:
    args = _arguments()
    table = pq.read_table(args.texts, columns=[args.column])
    texts = table[args.column].slice(0, args.requests).to_pylist()
    os.sched_setaffinity(0, {CLIENT_CORE})
    with contextlib.ExitStack() as stack:
        servers = {
            "headrace": stack.enter_context(headrace(args.model)),
            "pipeline": stack.enter_context(fastapi(args.model)),
        }
        engine = stack.enter_context(alone(args))
        rounds: list[dict[str, dict[str, float]]] = []
        for _ in range(args.rounds):
            found = {name: measured(*server, texts) for name, server in servers.items()}
            rounds.append({**found, "engine": engine()})
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    print(json.dumps(summary(rounds), indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.single_requests",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--column", default="text")
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


Server = tuple[subprocess.Popen[bytes], str]


@contextlib.contextmanager
def headrace(model: Path) -> Iterator[Server]:
    port = free_port()
    command = [str(BIN / "headrace-worker"), "serve", "--task", "text-classification",
               "--model", str(model), "--device", "cpu", "--threads", "1",
               "--listen", f"127.0.0.1:{port}"]  # fmt: skip
    with pinned(command, port) as found:
        yield found


@contextlib.contextmanager
def fastapi(model: Path) -> Iterator[Server]:
    port = free_port()
    with pinned([sys.executable, "-c", PIPELINE, str(model), str(port)], port) as found:
        yield found


@contextlib.contextmanager
def pinned(command: Sequence[str], port: int) -> Iterator[Server]:
    """The command as a server on its core."""
    words = ["taskset", "--cpu-list", str(SERVER_CORE), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HEADRACE_LOG_FORMAT": "json"}
    with started(words, f"http://127.0.0.1:{port}", environment) as found:
        yield found


@contextlib.contextmanager
def alone(args: argparse.Namespace) -> Iterator[Any]:
    """A process with the engine and a bare model; called, it measures both."""
    words = ["taskset", "--cpu-list", str(SERVER_CORE), sys.executable, "-c", ALONE]
    process = subprocess.Popen(
        [*words, str(args.model), str(args.texts), args.column, str(args.requests)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()

    def ask() -> dict[str, float]:
        print("", file=process.stdin, flush=True)
        found: dict[str, float] = json.loads(process.stdout.readline())
        return found

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(30)


def measured(process: subprocess.Popen[bytes], url: str, texts: Sequence[str]) -> dict[str, float]:
    """One client's median in ms, and requests a second of many."""
    single, _ = asyncio.run(asked(url, texts[:200], 1))
    used = processor_s(process.pid)
    many, seconds = asyncio.run(asked(url, texts, CLIENTS))
    used = processor_s(process.pid) - used
    return {
        "p50_ms": median(single), "p50_of_64_ms": median(many),
        "rows_per_s": len(texts) / seconds, "rows_per_processor_s": len(texts) / used,
    }  # fmt: skip


async def asked(url: str, texts: Sequence[str], clients: int) -> tuple[list[float], float]:
    """Milliseconds of each request, and seconds of all, over connections that stay open."""
    place = urlsplit(url)
    left = iter(texts)
    found: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for text in left:
            body = json.dumps({"input": [text]}).encode()
            head = f"POST /v1/classify HTTP/1.1\r\nHost: {place.netloc}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            began = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer.splitlines()[0], answer
            length = next(x for x in answer.lower().splitlines() if x.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            found.append((time.perf_counter() - began) * 1e3)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return found, time.perf_counter() - began


def summary(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Medians of the rounds' ratios: each is of two figures that were measured one after the other."""

    def ratio(over: tuple[str, str], under: tuple[str, str]) -> float:
        return round(median(r[over[0]][over[1]] / r[under[0]][under[1]] for r in rounds), 3)

    return {
        "p50 of one client over a bare forward": ratio(
            ("headrace", "p50_ms"), ("engine", "bare_p50_ms")
        ),
        "64 clients over the engine, by the clock": ratio(
            ("headrace", "rows_per_s"), ("engine", "rows_per_s")
        ),
        "64 clients over the engine, by processor time": ratio(
            ("headrace", "rows_per_processor_s"), ("engine", "rows_per_processor_s")
        ),
        "64 clients over FastAPI and a pipeline, by the clock": ratio(
            ("headrace", "rows_per_s"), ("pipeline", "rows_per_s")
        ),
        "64 clients over FastAPI and a pipeline, by processor time": ratio(
            ("headrace", "rows_per_processor_s"), ("pipeline", "rows_per_processor_s")
        ),
    }


if __name__ == "__main__":
    main()
