"""Serves the application with uvicorn, and closes connections that send no whole request."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from headrace.process.http_server import split_address
from headrace.process.logs import get_logger
from schemas.errors import ConfigError

log = get_logger(__name__)

HEADERS_S = 10.0
"""Longest wait for the head of a request. Chosen: ten thousand slow ones are gone after that."""
KEEP_ALIVE_S = 30
GRACE_S = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PatientProtocol(H11Protocol):
    """HTTP/1.1 of uvicorn, with a limit for the head of a request, which uvicorn has not."""

    headers_s = HEADERS_S

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # asyncio does so only for sockets made with a protocol, which `create_server`'s are not. The
        # body of an answer would wait 40 ms for the client's receipt of its head.
        opened = transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.loop.call_later(self.headers_s, self._close_if_silent, None)

    def _close_if_silent(self, seen: Any) -> None:
        """Close the connection if no request began since the last look."""
        if self.transport.is_closing():
            return
        is_served = self.cycle is not None and not self.cycle.response_complete
        if not is_served and self.cycle is seen:
            self.transport.close()
            return
        # uvicorn ends an idle connection before; one with half a head is seen the next time
        self.loop.call_later(self.headers_s, self._close_if_silent, self.cycle)


def serve(app: Any, listen: str) -> None:
    """Serve until SIGTERM or SIGINT; requests that run then may end.

    Raises:
        ConfigError: the address is not HOST:PORT, or is taken.
    """
    _allow_many_connections()
    server = make_server(app)
    with listening(listen) as open_socket, _returning_after_sigterm(server):
        host, port = open_socket.getsockname()[:2]
        log.info("http.started", endpoint=f"{host}:{port}")
        asyncio.run(server.serve(sockets=[open_socket]))
    log.info("http.stopped")


@contextmanager
def _returning_after_sigterm(server: uvicorn.Server) -> Iterator[None]:
    """Let `serve` return: uvicorn 0.54 raises SIGTERM again when it has stopped.

    That would end the process before its caller has closed what it holds.
    """

    def stop(*_: object) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def make_server(
    app: Any, http: type[PatientProtocol] = PatientProtocol, *, has_started: bool = False
) -> uvicorn.Server:
    """The server of an application; it ends when its `should_exit` is set.

    `has_started`: what the application does at its start and its end is done elsewhere.
    """
    config = uvicorn.Config(
        app, http=http, log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S, backlog=2048,
        lifespan="off" if has_started else "on", proxy_headers=False, ws="none",
    )  # fmt: skip
    return uvicorn.Server(config)


def listening(listen: str) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is not HOST:PORT, or is taken.
    """
    host, port = split_address(listen)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}") from error
    return found


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches the address."""
    return split_address(listen)[0] in LOOPBACK


def _allow_many_connections() -> None:
    """As many open files as the system lets us have without asking."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
