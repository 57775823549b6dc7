"""Servers that tests of all floors share; one that cannot start is an error, not a skip."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from schemas.broker import connect
from schemas.embedded_redis import EmbeddedRedis, die_with


def wait_until(condition: Callable[[], Any], limit_s: float = 20.0, what: str = "") -> Any:
    """The condition's first true answer; fails when the limit passes."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"waited {limit_s:g} s in vain for {what or condition}")


@pytest.fixture(scope="session", name="wait_until")
def _wait_until() -> Callable[..., Any]:
    return wait_until


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
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
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


# -- OpenTelemetry


@dataclass
class OtlpReceiver:
    """What arrived over OTLP/HTTP so far, as protobuf messages."""

    endpoint: str = ""
    spans: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> bool:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

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
    received = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(200 if received.take(self.path, body) else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).parent.parent
