"""One night of real processes, with everything kept that can be observed of it.

A controller, a host with two workers, a submission, an S3 store, a Redis with a password, a
collector. Rows raise, run out of memory and kill their worker; a whole worker is killed; the host
is drained and started again. Secrets and texts are planted; whoever uses this looks for them.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect
from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tracing.trace_file import SpanRow, read_spans
from tests.conftest import OtlpReceiver, free_port, receive_otlp, wait_until

BIN = Path(sys.executable).parent
TEXT = "zebra-umbrella-harpsichord"
"""Part of every text of the corpus."""
SECRETS = {
    "broker": "pw-granite-otter",
    "s3": "s3-velvet-anchor",
    "otlp": "otlp-copper-lantern",
    "hook": "hook-amber-falcon",
}
ROWS, CHUNK_ROWS = 360, 30
RAISES, RAISES_EARLY, KILLS, NULL, TOO_LARGE = 7, 41, 95, 130, 203


@dataclass
class Night:
    """What was seen."""

    store: Store
    collector: OtlpReceiver
    logs: dict[str, str] = field(default_factory=dict)
    pages: dict[str, list[str]] = field(default_factory=dict)
    """Every answer of each `/metrics`, in order."""
    commands: set[str] = field(default_factory=set)
    """Command lines of all our processes."""
    killed_s: list[float] = field(default_factory=list)
    """When a whole worker was killed, seconds since the epoch."""
    hooked: list[str] = field(default_factory=list)
    """Paths that the end of the job was reported to."""

    def spans(self) -> list[SpanRow]:
        """Of the files under `_traces/`."""
        return [
            span
            for info in self.store.list("_traces/")
            for span in read_spans(self.store.read(info.name) or b"")
        ]

    def lines(self) -> Iterator[dict[str, Any]]:
        """The JSON lines of all logs."""
        for text in self.logs.values():
            for line in text.splitlines():
                if line.startswith("{") and '"event"' in line:
                    yield json.loads(line)

    def everything(self) -> Iterator[tuple[str, str]]:
        """Where, and what: all that people and machines see, the results themselves left out."""
        yield from self.logs.items()
        for name, pages in self.pages.items():
            yield name, "\n".join(pages)
        yield "process list", "\n".join(sorted(self.commands))
        for at, body in enumerate(self.collector.bodies):
            yield f"OTLP request {at}", body.decode("latin-1")
        for info in self.store.list(""):
            data = self.store.read(info.name) or b""
            if info.name.startswith("data/"):
                facts = pq.read_metadata(pa.BufferReader(data)).metadata or {}
                yield f"metadata of {info.name}", str(facts)
            elif info.name.endswith(".parquet"):
                table = pq.ParquetFile(pa.BufferReader(data)).read()
                yield info.name, str(table.to_pylist())
            else:
                yield info.name, data.decode("latin-1")


def corpus(path: Path) -> None:
    """Texts that are all different, all with the planted words; some with a fault."""
    texts: list[str | None] = [f"{TEXT} row {i} " + "x" * (i % 40) for i in range(ROWS)]
    texts[RAISES] = f"{TEXT} __raise__ one"
    texts[RAISES_EARLY] = f"{TEXT} __raise_encode__ two"
    texts[KILLS] = f"{TEXT} __kill__ three"
    texts[NULL] = None
    texts[TOO_LARGE] = f"{TEXT} __oom__80 four"
    for copy in range(300, 306):
        texts[copy] = texts[299]
    table = pa.table({"name": [f"n-{i}" for i in range(ROWS)], "text": texts})
    pq.write_table(table, path, row_group_size=CHUNK_ROWS)


@contextmanager
def night(folder: Path, s3_endpoint: str, bucket: str) -> Iterator[Night]:
    """A finished one."""
    with ExitStack() as stack:
        redis_server = stack.enter_context(EmbeddedRedis(folder / "redis"))
        with connect(redis_server.url, name="test") as admin:
            admin.config_set("requirepass", SECRETS["broker"])
        collector = stack.enter_context(receive_otlp())
        hooked: list[str] = []
        hook = stack.enter_context(_hook(hooked))
        broker = redis_server.url.replace("://", f"://:{SECRETS['broker']}@")
        settings = {
            "HEADRACE_BROKER_URL": broker,
            "HEADRACE_S3_ENDPOINT_URL": s3_endpoint,
            "HEADRACE_LEASE_S": "3",
            "HEADRACE_GRACE_S": "5",
            "HEADRACE_LOG_FORMAT": "json",
            "AWS_SECRET_ACCESS_KEY": SECRETS["s3"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRETS['otlp']}",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "HEADRACE_ON_FINISH": f"{hook}/{SECRETS['hook']}",
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
        corpus(folder / "corpus.parquet")
        output = f"s3://{bucket}/out"
        found = Night(
            open_store(output, load_settings(s3_endpoint_url=s3_endpoint)), collector, hooked=hooked
        )
        processes = _Processes(folder, {**kept, **settings}, found)
        stack.callback(processes.close)
        processes.run_job(output)
        yield found


class _Processes:
    def __init__(self, folder: Path, environment: dict[str, str], found: Night) -> None:
        self._folder = folder
        self._environment = environment
        self._found = found
        self._started: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._ports: dict[str, int] = {}
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def run_job(self, output: str) -> None:
        host, listen = free_port(), free_port()
        controller = self._start("headrace", "controller", "--listen", f"127.0.0.1:{listen}")
        fleet = self._host("first host", host)
        self._ports |= {"controller": listen, "first host": host}
        self._watcher.start()
        self._call(
            "submit", "headrace", "submit", str(self._folder / "corpus.parquet"),
            "--output", output, "--task", "fake", "--id-column", "name",
            "--task-params", json.dumps({"faults": True, "ms_per_row": 3}),
            "--chunk-rows", str(CHUNK_ROWS), "--batch-tokens", "600", "--price-per-hour", "2",
            "--completion-window", "2h",
        )  # fmt: skip
        self._until_parts(2)
        self._found.killed_s.append(time.time())
        psutil.Process(fleet.pid).children()[0].kill()  # a worker and, with it, its child's parent
        self._until_parts(5)
        fleet.send_signal(signal.SIGTERM)
        assert fleet.wait(60) == 0
        again = free_port()
        fleet = self._host("second host", again)
        self._ports["second host"] = again
        wait_until(lambda: self._found.store.head("_headrace/manifest.json"), 90, "the end")
        wait_until(lambda: self._found.hooked, 20, "the hook")
        for what in ("status", "verify"):
            self._call(f"{what} --json", "headrace", what, output, "--json")
        self._call("status", "headrace", "status", output)
        self._call("explain", "headrace", "explain", output, "--id", f"n-{RAISES}")
        self._call("report", "headrace", "report", output)
        self._call("workers", "headrace", "status", "--workers", "--json")
        self._over.set()
        self._watcher.join()
        for process in (fleet, controller):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        self._read_logs()

    def _host(self, name: str, port: int) -> subprocess.Popen[bytes]:
        return self._start(
            "headrace-worker", "start", "--workers", "2", "--device", "cpu",
            "--health", f"127.0.0.1:{port}", log=name,
        )  # fmt: skip

    def _start(self, *command: str, log: str = "") -> subprocess.Popen[bytes]:
        path = self._folder / f"{log or command[1]}.log"
        with path.open("ab") as sink:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=self._environment | ({"HEADRACE_LOG_LEVEL": "debug"} if log == "submit" else {}),
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def _call(self, name: str, *command: str) -> None:
        process = self._start(*command, log=name)
        code = process.wait(60)
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        assert code == 0, f"{name}: {code}\n{text}"

    def _until_parts(self, count: int) -> None:
        wait_until(
            lambda: sum(1 for _ in self._found.store.list("data/")) >= count, 60, f"{count} parts"
        )

    def _watch(self) -> None:
        """What a neighbour sees: the list of processes, and every page of metrics."""
        while not self._over.wait(0.2):
            for process in list(self._started):
                try:
                    root = psutil.Process(process.pid)
                    for one in (root, *root.children(recursive=True)):
                        self._found.commands.add(" ".join(one.cmdline()))
                except psutil.Error:
                    continue
            for name, port in list(self._ports.items()):
                for path in ("metrics", "status") if "host" in name else ("metrics",):
                    try:
                        url = f"http://127.0.0.1:{port}/{path}"
                        with urllib.request.urlopen(url, timeout=5) as answer:
                            text = answer.read().decode()
                    except OSError:
                        continue
                    self._found.pages.setdefault(f"/{path} of {name}", []).append(text)

    def _read_logs(self) -> None:
        for path in [*self._folder.glob("*.log"), *self._folder.glob("state/**/*")]:
            if path.is_file():
                self._found.logs[path.name] = path.read_text(errors="replace")

    def close(self) -> None:
        self._over.set()
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def _hook(told: list[str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            told.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()
