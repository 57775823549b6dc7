"""A gateway on a real socket: uploads that are cut off, and clients that never finish a request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from headrace.http.asgi_server import PatientProtocol, listening, make_server
from producers.gateway.access.limits import Limits
from tests.conftest import wait_until
from tests.integration.gateway.conftest import House, MakeHouse

HEADERS_S = 1.0
SLOW = 800
"""Connections that send no whole request; each is two files of this process."""


class Quick(PatientProtocol):
    headers_s = HEADERS_S


class Noting(PatientProtocol):
    """Notes whether each connection sends small pieces at once."""

    no_delay: ClassVar[list[int]] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        self.no_delay.append(opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@contextlib.contextmanager
def served(house: House, protocol: type[PatientProtocol] = Quick) -> Iterator[tuple[str, int]]:
    """The gateway at an address, with a server as `headrace serve` has it."""
    open_socket = listening("127.0.0.1:0")
    server = make_server(house.clients[""].app, protocol, has_started=True)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[open_socket])), daemon=True
    )
    thread.start()
    wait_until(lambda: server.started, 20, "the server")
    try:
        yield open_socket.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(20)
        open_socket.close()


@pytest.fixture
def local(make_house: MakeHouse) -> House:
    return make_house(needs_keys=False)


def url(address: tuple[str, int], path: str) -> str:
    return f"http://127.0.0.1:{address[1]}{path}"


def left_behind(folder: Path) -> list[str]:
    """Files below the gateway's folder; os.walk bears that folders go away while it looks."""
    return [f"{at}/{name}" for at, _, names in os.walk(folder / "gateway") for name in names]


def test_an_upload_that_is_cut_off_leaves_nothing_behind(local: House) -> None:
    head = (
        b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    with served(local) as address:
        with socket.create_connection(address) as client:
            client.sendall(head + b"y" * 200_000)
            wait_until(lambda: left_behind(local.folder), 10, "the beginning on the disk")
        wait_until(lambda: not left_behind(local.folder), 10, "the disk to be empty again")
        assert requests.get(url(address, "/v1/files"), timeout=10).json()["data"] == []


def test_the_body_of_an_answer_does_not_wait_for_the_receipt_of_its_head(local: House) -> None:
    Noting.no_delay.clear()
    with served(local, Noting) as address:
        assert requests.get(url(address, "/healthz"), timeout=10).status_code == 200
    assert set(Noting.no_delay) == {1}


SERVES = """
import sys
from starlette.applications import Starlette
from headrace.http.asgi_server import serve
from headrace.process.logs import configure_logging
from headrace.settings import load_settings

configure_logging(load_settings(log_format="json"), sys.stdout)
serve(Starlette(), "127.0.0.1:0")
print("closes what it holds", flush=True)
"""


def test_sigterm_lets_the_caller_close_what_it_holds() -> None:
    told = []
    command = [sys.executable, "-c", SERVES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if "http.started" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert "closes what it holds\n" in told
    assert any("http.stopped" in line for line in told)


def test_a_chunked_body_without_end_is_cut_off(local: House) -> None:
    with served(local) as address, socket.create_connection(address, 20) as client:
        client.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(1_000):
                client.sendall(piece)
            pytest.fail("64 MB were taken")
        assert requests.get(url(address, "/healthz"), timeout=10).status_code == 200


def test_a_body_that_comes_by_single_bytes_is_cut_off(
    local: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: Any = local.clients[""].app
    while not isinstance(limits, Limits):
        limits = limits._app
    monkeypatch.setattr(limits, "_slow_s", 0.5)
    with served(local) as address, socket.create_connection(address, 20) as client:
        client.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        client.settimeout(0.05)

        def answered() -> bytes:
            with contextlib.suppress(ConnectionError):
                client.send(b" ")  # each piece comes long before the wait for one is over
            with contextlib.suppress(TimeoutError):
                return client.recv(12)
            return b""

        assert wait_until(answered, 10, "the end") == b"HTTP/1.1 408"


def test_slow_connections_do_not_keep_others_out_and_are_closed(local: House) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    slow: list[socket.socket] = []
    try:
        with served(local) as address:
            for i in range(SLOW):
                client = socket.create_connection(address, 20)
                client.sendall(b"" if i % 2 else b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                slow.append(client)
            started = time.perf_counter()
            assert requests.get(url(address, "/healthz"), timeout=10).status_code == 200
            assert time.perf_counter() - started < 5
            for client in slow:
                assert _is_closed(client)
    finally:
        for client in slow:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_closed(client: socket.socket) -> bool:
    """Whether the other side ends the connection without an answer; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_request_that_takes_longer_than_its_head_may_is_answered(local: House) -> None:
    """Events go on for as long as a job runs."""
    with served(local) as address, socket.create_connection(address, 20) as client:
        client.sendall(
            b"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        with socket.create_connection(address, 20) as other:
            assert other.recv(1) == b"", "one without a head is closed by now"
        client.sendall(b"}")
        assert client.recv(12) == b"HTTP/1.1 400"
