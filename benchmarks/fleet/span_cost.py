"""What spans cost: the same chunks with and without them, in turn: `python -m benchmarks.fleet.span_cost`.

A whole worker's handling of a message (lease, read, tokenize, forward, write, commit, receipts) on
one core, with an embedded Redis and a local folder. Each round does one message in each mode; what
counts is the ratio within a round, so that a machine that is slow for a while is slow for all.
Two clocks are read: the wall's, which also sees a worker that waits for a collector, and the
process's CPU seconds, exporter threads included, which see nothing of who else uses the machine.
`--by cpu` judges by the latter: for a machine that is shared. `--handling` measures the spans alone,
in milliseconds of CPU a chunk.

| mode | what is on |
| --- | --- |
| off | no collector, no files under `_traces/` |
| on | the defaults: spans over OTLP to a collector that answers, and files under `_traces/` |
| down | the same, and nobody listens |
| slow | the same, and the collector answers nothing for as long as it is asked |
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.inputs import SIZES, make_model, take_corpus

MODES = ("off", "on", "down", "slow")
LIMITS = {"on": 0.02, "down": 0.05, "slow": 0.05}
"""Shares of throughput that spans may cost."""

# Answers every request with 200 and reads it whole; in a process of its own, on another core.
COLLECTOR = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def main() -> None:
    args = _arguments()
    if args.handling:
        with ExitStack() as stack:
            print(json.dumps(handling_ms(stack), indent=1))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-spans-")))
        found = measure(args, folder, stack)
    print(json.dumps(found, indent=1))
    judged = found["cost" if args.by == "wall" else "cpu_cost"]
    missed = {m: c for m, c in judged.items() if c["median"] > LIMITS[m]}
    sys.exit(1 if missed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.span_cost", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--handling", action="store_true", help="the spans alone")
    parser.add_argument("--by", choices=("wall", "cpu"), default="wall", help="clock that judges")
    parser.add_argument("--chunks", type=int, default=2, help="of a message")
    parser.add_argument("--rows", type=int, default=200, help="of a chunk")
    parser.add_argument("--corpus", type=Path, help="Parquet with a column text")
    parser.add_argument("--model", type=Path, help="folder of a text classifier")
    parser.add_argument("--size", choices=SIZES, default="minilm", help="else, random weights")
    return parser.parse_args()


def measure(args: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Rows a second of each mode, and what each costs beside `off`, by both clocks."""
    from headrace.queue.embedded_redis import EmbeddedRedis

    chunks = args.chunks * (args.rounds + 1)  # the first round warms up
    corpus, model = folder / "corpus.parquet", args.model or folder / "model"
    take_corpus(args.corpus, chunks * args.rows, corpus)
    if args.model is None:
        make_model(model, args.size)
    server = stack.enter_context(EmbeddedRedis())
    endpoints = {
        "on": stack.enter_context(_answering()),
        "down": "http://127.0.0.1:1",
        "slow": stack.enter_context(_silent()),
    }
    sides = {
        mode: _Side(mode, endpoints.get(mode), corpus, model, folder, server.url, args.rows)
        for mode in MODES
    }
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    cpu_s: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(args.rounds + 1):
        first = number % len(MODES)  # each mode comes first, last and between in turn
        for mode in MODES[first:] + MODES[:first]:
            took = sides[mode].message(range(number * args.chunks, (number + 1) * args.chunks))
            if number:
                seconds[mode].append(took[0])
                cpu_s[mode].append(took[1])
    rows = args.chunks * args.rows
    return {
        "rows_a_message": rows,
        "rounds": args.rounds,
        "rows_per_s": {m: round(rows / statistics.median(s), 1) for m, s in seconds.items()},
        "cost": {mode: cost(seconds["off"], seconds[mode]) for mode in MODES[1:]},
        "cpu_cost": {mode: cost(cpu_s["off"], cpu_s[mode]) for mode in MODES[1:]},
        "spans": {mode: side.end() for mode, side in sides.items()},
    }


def cost(off: list[float], on: list[float]) -> dict[str, float]:
    """Share of throughput lost, over the rounds, out of seconds without spans and with them."""
    shares = [1 - a / b for a, b in zip(off, on, strict=True)]
    low, middle, high = statistics.quantiles(shares, n=4)
    return {"median": round(middle, 4), "quartile_1": round(low, 4), "quartile_3": round(high, 4)}


def handling_ms(stack: ExitStack, chunks: int = 300) -> dict[str, float]:
    """Milliseconds of CPU that the spans of a chunk take by mode: made, kept as Parquet, sent."""
    from headrace.settings import load_settings
    from headrace.storage.local import LocalStore
    from headrace.telemetry.provider import start_telemetry
    from headrace.tracing.chunk_trace import ChunkTrace
    from headrace.tracing.trace_file import spans_to_parquet
    from schemas.names.telemetry import STAGES

    endpoints = {
        "off": None,
        "on": stack.enter_context(_answering()),
        "down": "http://127.0.0.1:1",
        "slow": stack.enter_context(_silent()),
    }
    found = {}
    for mode, endpoint in endpoints.items():
        store = LocalStore(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        with _environment(endpoint):
            telemetry = start_telemetry("headrace-worker", load_settings(), worker=mode)
        began = time.process_time()
        for chunk in range(chunks):
            observe = ChunkTrace(telemetry, job="a" * 16, chunk=chunk, attempt=f"x{chunk}")
            for stage in STAGES:
                for _ in range(20 if stage in ("forward", "decode") else 1):  # 20 batches
                    with observe(stage, rows=10, tokens=100):
                        pass
            spans = observe.finish("ok", rows=200, tokens=2_000)
            if mode != "off":
                store.create(f"_traces/part-{chunk}.spans", spans_to_parquet(spans))
        telemetry.flush(3.0)
        found[mode] = round(1000 * (time.process_time() - began) / chunks, 2)
        telemetry.shutdown(0.5)
    return found


class _Side:
    """A worker in one mode, with a job of its own."""

    def __init__(
        self,
        mode: str,
        endpoint: str | None,
        corpus: Path,
        model: Path,
        folder: Path,
        broker: str,
        chunk_rows: int,
    ) -> None:
        from headrace.queue.celery_config import make_sender
        from headrace.queue.redis_connection import celery_url, connect
        from headrace.settings import load_settings
        from headrace.storage.open import open_store
        from headrace.telemetry.provider import start_telemetry
        from producers.capacity.device_hint import DeviceHint
        from producers.submission.create import create_job
        from producers.submission.prepare import prepare
        from workers.execution.presence import Identity
        from workers.execution.runtime import Runtime

        settings = load_settings(
            broker_url=broker, traces=mode != "off", model=str(model), chunk_rows=chunk_rows
        )
        prepared = prepare(
            settings, [str(corpus)], str(folder / mode), device_hint=DeviceHint(), workers_hint=1
        )
        self._job, _ = create_job(
            open_store(prepared.output, settings), prepared, now_s=time.time()
        )
        with _environment(endpoint):
            self._telemetry = start_telemetry("headrace-worker", settings, worker=mode)
        self._runtime = Runtime(
            settings, Identity(mode, "cpu", 1), connect(broker, name=mode), self._telemetry,
            make_sender(celery_url(broker)),
        )  # fmt: skip

    def message(self, chunks: range) -> tuple[float, float]:
        """Handle one message; its seconds, and this process's seconds on the CPU."""
        from schemas.records.message import ScoreChunk
        from workers.execution.handler import handle

        job = self._job
        body = ScoreChunk(job=job.id, output=job.output, chunks=tuple(chunks), traceparent=None)
        start, on_cpu = time.perf_counter(), time.process_time()
        handle(body.model_dump(mode="json"), self._runtime)
        return time.perf_counter() - start, time.process_time() - on_cpu

    def end(self) -> dict[str, int]:
        """What became of the spans."""
        self._telemetry.flush(5.0)
        found = {
            "exported": self._telemetry.spans_exported(),
            "dropped": sum(self._telemetry.spans_dropped().values()),
        }
        self._telemetry.shutdown(0.5)
        return found


@contextmanager
def _environment(endpoint: str | None) -> Iterator[None]:
    """OpenTelemetry's variables while a side starts."""
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    before = os.environ.pop(name, None)
    if endpoint:
        os.environ[name] = endpoint
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _answering() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True, preexec_fn=_elsewhere
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.terminate()
    process.communicate()


def _elsewhere() -> None:
    """A collector is another machine's work: on another core than ours, at the usual priority."""
    ours = os.sched_getaffinity(0)
    others = set(range(os.cpu_count() or 1)) - ours
    if len(ours) == 1 and others:
        os.sched_setaffinity(0, others)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def _silent() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
