"""A very small HTTP server for health, metrics and scaling: GET only, in a thread, without state.

Both sides have one: the controller for the scaler and Prometheus, the fleet for its liveness.
It has no authentication and is meant for the network inside a cluster (deploy/kubernetes has the
NetworkPolicy); its answers contain no texts and no credentials.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from headrace.process.logs import get_logger
from schemas.errors import ConfigError, HeadraceError

log = get_logger(__name__)

_REQUEST_S = 10.0  # chosen: slower requests are cut off


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: a dict is sent as JSON, a string as text."""

    body: Mapping[str, Any] | str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[Mapping[str, str]], Reply]
"""Takes the query's fields, the last of each name."""


@contextlib.contextmanager
def serve_http(listen: str, routes: Mapping[str, Route]) -> Iterator[int]:
    """Serve the routes in the background for the block's life; yields the port.

    Raises:
        ConfigError: the address is not HOST:PORT, or is taken.
    """
    host, port = split_address(listen)
    try:
        server = _Server((host, port), _handler(routes))
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}") from error
    poll_s = 0.1  # how soon `shutdown` takes effect
    thread = threading.Thread(
        target=server.serve_forever, args=(poll_s,), name="headrace-http", daemon=True
    )
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; `:8080` is every address of IPv4.

    Raises:
        ConfigError: it has another form.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{listen!r} is not HOST:PORT, such as 0.0.0.0:8080")
    return host.strip("[]") or "0.0.0.0", int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # with the library's default of 5, a burst of hosts has to wait


def _handler(routes: Mapping[str, Route]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S
        server_version = "headrace"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def _answer(self, *, send_body: bool) -> None:
            url = urlsplit(self.path)
            route = routes.get(url.path)
            reply = Reply({"error": f"there is {', '.join(sorted(routes))}"}, 404)
            if route is not None:
                reply = _asked(route, dict(parse_qsl(url.query)))
            is_text = isinstance(reply.body, str)
            data = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type if is_text else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if send_body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes come every few seconds, and the code that acts writes the log."""

    return Handler


def _asked(route: Route, query: Mapping[str, str]) -> Reply:
    try:
        return route(query)
    except HeadraceError as error:
        return Reply({"error": str(error)}, 400)
    except Exception as error:  # a failed probe is answered with an error, and the server goes on
        log.warning("http.failed", error_type=type(error).__name__)
        return Reply({"error": type(error).__name__}, 503)
