"""A million lines up and down through a gateway: its memory, and its speed beside a bare application.

    python -m benchmarks.gateway.million --lines 1000000

A real `headrace serve` gets a file of some 200 MB, checks it, submits its job and writes the answers,
which are then downloaded. The job's parts are written here, by a task that computes nothing: what is
measured is the gateway. The peak of its memory is read after each step. Beside it `curl` uploads the
same file into a bare Starlette application that streams it to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import requests

from benchmarks.fleet.startup import high_water_mb
from headrace.output.job_record import read_job
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.storage.local import LocalStore
from headrace.tasks.contract import Encodings
from tests.acceptance.harness.house import gateway_environment
from tests.conftest import free_port, wait_until
from tests.unit.small_job import finish, score
from tests.unit.tiny_models import TinyModels
from workers.tasks.fake import FakeTask

BIN = Path(sys.executable).parent
WORDS = "a good film and a bad one, seen twice in the same week by people who liked neither"

BARE = """
import os, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def take(request):
    with open(sys.argv[2], "wb") as file:
        async for piece in request.stream():
            file.write(piece)
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/v1/files", take, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="headrace-gateway-", dir=args.scratch) as name:
        folder = Path(name)
        corpus = folder / "lines.jsonl"
        write_lines(corpus, args.lines)
        for line in measured(folder, corpus, args.lines):
            print(json.dumps(line), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.million", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, help="folder for the store and the files")
    return parser.parse_args()


def write_lines(path: Path, lines: int) -> None:
    """A batch file of some 200 bytes a line."""
    with path.open("w") as file:
        for i in range(lines):
            body = {"model": "tiny", "input": f"{i} {WORDS[: 40 + i % 43]}"}
            line = {"custom_id": f"row-{i:08d}", "method": "POST",
                    "url": "/v1/classifications", "body": body}  # fmt: skip
            file.write(json.dumps(line) + "\n")


def measured(folder: Path, corpus: Path, lines: int) -> Iterator[dict[str, Any]]:
    """Each step with its seconds, and the gateway's peak memory since the step before."""
    with gateway(folder) as (process, url):
        step = _Steps(process.pid)
        yield step("start", lambda: None)
        for door, at in (("bare", bare(folder)), ("gateway", nullcontext(url))):
            with at as base:
                for _ in range(3):
                    yield step(f"upload, {door}", lambda base=base: upload(base, corpus))
        file = json.loads(upload(url, corpus))["id"]
        body = {"input_file_id": file, "endpoint": "/v1/classifications",
                "completion_window": "24h"}  # fmt: skip
        made = requests.post(f"{url}/v1/batches", json=body, timeout=30).json()["id"]
        store = LocalStore(folder / "store" / "batches" / made / "job")
        job = None

        def submitted() -> None:
            nonlocal job
            job = wait_until(lambda: read_job(store), 600, "the job", 0.1)

        yield step("check and submit", submitted)
        assert job is not None
        score(store, job, task=Canned())
        finish(store, job)

        def ended() -> Any:
            found = requests.get(f"{url}/v1/batches/{made}", timeout=60).json()
            return found if found["status"] == "completed" else None

        found: dict[str, Any] = {}
        yield step("answers", lambda: found.update(wait_until(ended, 600, "the answers", 0.5)))
        out = folder / "answers"
        path = f"{url}/v1/files/{found['output_file_id']}/content"
        yield step("download", lambda: curl("-o", str(out), path))
        with out.open("rb") as answers:
            assert sum(1 for _ in answers) == lines
        yield {"file_mb": corpus.stat().st_size / 1e6, "answers_mb": out.stat().st_size / 1e6}


class _Steps:
    """Runs steps, and reads the peak memory of a process after each."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __call__(self, name: str, act: Callable[[], Any]) -> dict[str, Any]:
        # 5 sets the peak back to what is held now: man 5 proc
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        before, started = processor_s(self._pid), time.perf_counter()
        act()
        seconds, used = time.perf_counter() - started, processor_s(self._pid) - before
        return {"step": name, "seconds": round(seconds, 2), "processor_s": round(used, 2),
                "peak_mb": round(high_water_mb(self._pid))}  # fmt: skip


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used, its own and the system's for it."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def curl(*words: str) -> str:
    """What curl prints; it fails on an answer that is an error."""
    command = ["curl", "--silent", "--show-error", "--fail", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def upload(url: str, corpus: Path) -> str:
    form = ("-F", "purpose=batch", "-F", f"file=@{corpus}")
    return curl(*form, "-H", "Expect:", f"{url}/v1/files")


@contextmanager
def bare(folder: Path) -> Iterator[str]:
    """A Starlette application that streams what it gets to a file."""
    port = free_port()
    command = [sys.executable, "-c", BARE, str(port), str(folder / "bare")]
    with started(command, f"http://127.0.0.1:{port}", dict(os.environ)) as (_, url):
        yield url


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`headrace serve` with a Redis, a store in the folder, and the model `tiny`."""
    model = TinyModels(folder / "models")("bert", "SequenceClassification")
    with EmbeddedRedis(folder / "redis") as redis:
        environment = gateway_environment(
            folder, redis.url, GATEWAY_MODELS=f"tiny={model}", GATEWAY_FILE_BYTES="1000000000"
        )
        port = free_port()
        command = [str(BIN / "headrace"), "serve", "--listen", f"127.0.0.1:{port}"]
        with started(command, f"http://127.0.0.1:{port}", environment) as found:
            yield found


@contextmanager
def started(
    command: Sequence[str], url: str, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that serves the address."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(url), 60, url)
        yield process, url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=5).status_code in (200, 404)
    except requests.ConnectionError:
        return False


class Canned(FakeTask):
    """Says the same of each text, and reads none."""

    def columns(self) -> list[pa.Field]:
        return [pa.field("predicted_label", pa.string()), pa.field("score", pa.float32())]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        count = len(texts)
        return Encodings(
            ids=np.zeros(count, np.int32), offsets=np.arange(count + 1, dtype=np.int64),
            truncated=np.zeros(count, bool),
        )  # fmt: skip

    def forward(self, batch: Encodings) -> Any:
        return [0.75] * len(batch)

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        labels = pa.array(["LABEL_1"] * len(output))
        scores = pa.array(output, pa.float32())
        return pa.record_batch([labels, scores], schema=pa.schema(self.columns()))


if __name__ == "__main__":
    main()
