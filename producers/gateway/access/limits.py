"""Limits on every request, as ASGI middleware: body sizes, slow clients, cross-site requests, headers.

They wrap the application and see bytes before any route does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from producers.gateway.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SMALL_BYTES = 1_000_000
"""Largest body of a request that is not an upload. Chosen: a submission has some hundred bytes."""
SLOW_S = 30.0
"""Longest wait for the next piece of a body. Chosen: clients on slow networks send more often."""
SLOW_BYTES_S = 1_000.0
"""Fewest bytes a second that a body comes with, after the first `SLOW_S`. Chosen: without it, a client
that sends a byte now and then would hold its connection for a year."""
UPLOAD = "/v1/files"
_SAFE = {"GET", "HEAD", "OPTIONS"}

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Limits:
    """Limits the size of bodies and the wait for each piece; adds headers to each response."""

    def __init__(self, app: App, upload_bytes: int, slow_s: float = SLOW_S) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._slow_s = slow_s

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/") == UPLOAD
        # an upload's form needs a little more than its file
        most = self._upload_bytes + SMALL_BYTES if is_upload else SMALL_BYTES
        body = _Body(receive, most, self._slow_s)
        started = False

        async def send_more(message: Message) -> None:
            nonlocal started
            if body.problem is not None and not started:
                return  # what the application makes of it: it is answered below
            if message["type"] == "http.response.start":
                started = True
                known = {name.lower() for name, _ in message["headers"]}
                extra = [pair for pair in _HEADERS if pair[0] not in known]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            _refuse_large(scope, most)
            _refuse_other_sites(scope)
            await self._app(scope, body.receive, send_more)
        except Problem as problem:
            if started:
                raise
            body.problem = problem
        kept = body.problem
        if kept is not None and not started:
            body.problem = None
            await answer(kept, send_more)


class _Body:
    """The body of a request, counted and timed; keeps its first error.

    An application may turn the error into one of its own, and would then answer with another status
    on a connection that stays open.
    """

    def __init__(self, receive: Receive, most: int, slow_s: float) -> None:
        self._receive = receive
        self._most = most
        self._slow_s = slow_s
        self._started = time.monotonic()
        self._seen = 0
        self._is_whole = False
        self.problem: Problem | None = None

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Problem: 408, it did not come in time; 413, the body is too large.
        """
        try:
            # after the body comes only the end of the connection, which may take long
            limit_s = None if self._is_whole else self._wait_s()
            message = await asyncio.wait_for(self._receive(), limit_s)
        except TimeoutError:
            self.problem = Problem(
                408, f"the body stopped coming for {self._slow_s:g} s, or comes with less than "
                f"{SLOW_BYTES_S:,.0f} bytes a second", code="slow_body",
            )  # fmt: skip
            raise self.problem from None
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._is_whole = not message.get("more_body")
            if self._seen > self._most:
                self.problem = _too_large(self._most)
                raise self.problem
        return message

    def _wait_s(self) -> float:
        """How long the next piece may take."""
        took_s = time.monotonic() - self._started
        return max(0.0, min(self._slow_s, self._slow_s + self._seen / SLOW_BYTES_S - took_s))


async def answer(problem: Problem, send: Send) -> None:
    """Send the problem and close the connection: the rest of the body is not read."""
    body = json.dumps(problem.body()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _refuse_large(scope: MutableMapping[str, Any], most: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > most:
            raise _too_large(most)


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body is larger than {most:,} bytes", code="too_large")


def _refuse_other_sites(scope: MutableMapping[str, Any]) -> None:
    """Refuse requests by which a page of another site would change something here.

    Source: https://owasp.org/www-community/attacks/csrf; `Sec-Fetch-Site` is sent by every browser.
    """
    if scope["method"] in _SAFE:
        return
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get(b"sec-fetch-site", "none")
    origin = headers.get(b"origin")
    host = headers.get(b"host", "")
    if site not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != host
    ):
        raise Problem(403, "a request from another site changes nothing here", code="other_site")


class LoopbackHosts:
    """Without keys, accepts only loopback host names, which prevents DNS rebinding."""

    NAMES = ("localhost", "127.0.0.1", "[::1]")

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in self.NAMES:
                problem = Problem(
                    403, "without keys only localhost is answered; see headrace keys", code="host"
                )
                await answer(problem, send)
                return
        await self._app(scope, receive, send)
