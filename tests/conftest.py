"""Servers that tests of all floors share; one that cannot start is an error, not a skip."""

from __future__ import annotations

import gc
import gzip
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from headrace.process import cpu
from headrace.queue.embedded_redis import EmbeddedRedis, die_with
from headrace.queue.redis_connection import connect
from tests.side_by_side import pytest_xdist_make_scheduler  # noqa: F401  # a hook

# CI tries the same examples each time: what it finds is a fault of the change, not of the day.
# Elsewhere each run looks for new ones. No deadline: the machines are shared.
hypothesis.settings.register_profile(
    "headrace",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=int(os.environ.get("HEADRACE_FUZZ", "100")),  # make fuzz; 100 is hypothesis's own
)
hypothesis.settings.load_profile("headrace")

# make test-avx2: what is read instead of /proc/cpuinfo, in this process; its children read the real one
cpu.CPUINFO = Path(os.environ.get("HEADRACE_TEST_CPUINFO", cpu.CPUINFO))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Budgets and choices that a run measured must not decide the next, nor lie in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_report_header() -> str:
    """Which tests can run hangs on these."""
    served = [name for name, why_not in cpu.number_formats().items() if not why_not]
    return f"cpu: {cpu.cpu_name()}, {os.cpu_count()} cores, serves {', '.join(served)}"


def wait_until(
    condition: Callable[[], Any], limit_s: float = 20.0, what: str = "", every_s: float = 0.01
) -> Any:
    """The condition's first true answer; fails when the limit passes."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(every_s)
    raise AssertionError(f"waited {limit_s:g} s in vain for {what or condition}")


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    """A command's process ends soon after its imports; this one goes on, with everybody's garbage."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", name="wait_until")
def _wait_until() -> Callable[..., Any]:
    return wait_until


_POLL_S = 0.02
"""How often a test server looks whether it shall stop; the library's 0.5 s adds up."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the library's 5, a burst of clients waits 1 s for a SYN


# -- Redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_client(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """A client of an empty Redis."""
    client = connect(redis_server.url, name="test")
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis, redis_client: redis.Redis) -> str:
    """The URL of the same, empty Redis."""
    return redis_server.url


# -- S3


@dataclass(frozen=True)
class S3Server:
    """A moto server in a process of its own."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @cache  # noqa: B019 - making one takes 0.2 s, and the server lives as long as the session
    def client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The environment holds dummy credentials, so that child processes have them too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        port = free_port()
        log = tmp_path_factory.mktemp("moto") / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "serve_s3.py"), str(port)],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()) if sys.platform == "linux" else None,
            )
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), 60, "moto to listen")
            if process.poll() is not None:
                raise RuntimeError(f"moto did not start: {log.read_text()[-2000:]}")
            yield S3Server(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """An empty bucket of this test's own."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3_server.client().create_bucket(Bucket=name)
    return name


# -- S3 that fails


@dataclass(frozen=True)
class Seen:
    """A request that came to the fault proxy; `fault` is what was done to it."""

    method: str
    path: str
    fault: str
    status: int


class FaultProxy:
    """A proxy before an S3 server that does to each request what `decide(method, path)` says.

    ""        passes it on
    "503"     answers SlowDown itself; so any number: the status, with S3's code for it
    "drop"    closes the connection, nothing is passed on
    "lost"    passes it on, then closes the connection without the reply
    "hang"    passes it on, then never replies
    "cut"     passes it on, and breaks the reply off in its middle
    "late"    closes the connection, and passes it on before the next request of its kind
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.removeprefix("http://")
        self._lock = threading.Lock()
        self._late: list[tuple[str, str, bytes, dict[str, str]]] = []
        self._released = threading.Event()
        self.decide: Callable[[str, str], str] = lambda method, path: ""
        self.accepted_key: str | None = None
        """The access key whose requests are passed on; another's token has expired. None: any."""
        self.seen: list[Seen] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True).start()

    def commits(self, path: str) -> int:
        """How many writes of that key the server took; completing one upload twice counts once."""
        hits = [s for s in self.seen if s.path.startswith(path) and s.status == 200]
        whole = [s for s in hits if s.method == "PUT" and "partNumber" not in s.path]
        return len(whole) + len(
            {s.path for s in hits if s.method == "POST" and "uploadId" in s.path}
        )

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        method, path = request.command, request.path
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            fault = self.decide(method, path)
            signed = request.headers.get("Authorization", "")
            if self.accepted_key is not None and f"={self.accepted_key}/" not in signed:
                fault = "400"
        sent = (method, path, body, dict(request.headers.items()))
        if fault == "late":
            self._late.append(sent)
        elif fault.isdigit():
            _answer(request, int(fault), _S3_ERROR % _S3_CODES.get(fault, b"SlowDown"), {})
            self.seen.append(Seen(method, path, fault, int(fault)))
        elif fault == "drop":
            self.seen.append(Seen(method, path, fault, 0))
        else:
            for late in [late for late in self._late if late[0] == method]:
                self._late.remove(late)
                self._pass_on(*late, fault="late")
            status, headers, reply = self._pass_on(*sent, fault=fault)
            if fault == "hang":
                self._released.wait(60)
            elif fault == "cut":
                _answer(request, status, reply[: len(reply) // 2], headers)
            elif fault != "lost":
                _answer(request, status, reply, headers)

    def _pass_on(
        self, method: str, path: str, body: bytes, headers: dict[str, str], *, fault: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        headers = {k: v for k, v in headers.items() if k.lower() not in ("expect", "connection")}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.seen.append(Seen(method, path, fault, answer.status))
        return answer.status, dict(answer.getheaders()), content


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    length = headers.get("Content-Length", str(len(body)))
    kept = {k: v for k, v in headers.items() if k.lower() not in _OF_ONE_HOP}
    request.send_response_only(status)
    for name, value in {**kept, "Content-Length": length, "Connection": "close"}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


_S3_ERROR = b"<Error><Code>%s</Code></Error>"
_S3_CODES = {
    "400": b"ExpiredToken",
    "403": b"AccessDenied",
    "404": b"NoSuchUpload",
    "409": b"ConditionalRequestConflict",
    "412": b"PreconditionFailed",
    "413": b"EntityTooLarge",
    "501": b"NotImplemented",
}
_OF_ONE_HOP = ("content-length", "connection", "transfer-encoding", "keep-alive")


@pytest.fixture
def fault_proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A second door to the S3 server, which fails as the test decides."""
    proxy = FaultProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


# -- OpenTelemetry


@dataclass
class OtlpReceiver:
    """What arrived over OTLP/HTTP so far, as protobuf messages."""

    endpoint: str = ""
    spans: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Everything, as it came."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request, names in small letters."""

    def take(self, path: str, body: bytes) -> bool:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        self.bodies.append(body)
        if path == "/v1/traces":
            for part in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(
                    {a.key: a.value.string_value for a in part.resource.attributes}
                )
                self.spans.extend(span for scope in part.scope_spans for span in scope.spans)
            return True
        if path == "/v1/metrics":
            request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)
            for group in request.resource_metrics:
                self.metrics.extend(m for scope in group.scope_metrics for m in scope.metrics)
            return True
        return False


@pytest.fixture
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A collector that keeps what it gets; `endpoint` is the base URL, without /v1/traces."""
    with receive_otlp() as received:
        yield received


@contextmanager
def receive_otlp() -> Iterator[OtlpReceiver]:
    """The same, for a block."""
    received = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.send_response(200 if received.take(self.path, body) else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    received.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).parent.parent
