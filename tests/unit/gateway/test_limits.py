"""What holds for every request: size, speed, other sites, names of hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from producers.gateway.access.limits import SMALL_BYTES, Limits, LoopbackHosts


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(
    app: Any, pieces: list[bytes], *, path: str = "/v1/jobs", method: str = "POST",
    ends: bool = True, **headers: str,
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    """Status, headers and body of the answer; the body of the request may never end."""
    scope: MutableMapping[str, Any] = {
        "type": "http", "method": method, "path": path,
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    left = list(pieces)
    sent: list[Any] = []

    async def receive() -> Any:
        if left:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


def code_of(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def test_a_body_that_never_ends_is_cut_off_where_it_is_too_large() -> None:
    app = Limits(_echo, upload_bytes=10)
    status, headers, body = ask(app, [b"x" * 400_000] * 3, ends=False)
    assert (status, code_of(body), headers["connection"]) == (413, "too_large", "close")
    assert ask(app, [b""], content_length=str(SMALL_BYTES + 1))[0] == 413
    assert ask(app, [b"x"] * 5)[::2] == (200, b"5")


def test_an_upload_may_be_larger_than_other_bodies() -> None:
    app = Limits(_echo, upload_bytes=3_000_000)
    assert ask(app, [b"x" * 2_000_000], path="/v1/files")[0] == 200
    assert ask(app, [b"x" * 2_000_000], path="/v1/files/x")[0] == 413


def test_a_body_that_stops_coming_is_given_up() -> None:
    status, _, body = ask(Limits(_echo, 10, slow_s=0.05), [b"x"], ends=False)
    assert (status, code_of(body)) == (408, "slow_body")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"origin": "https://evil.example", "host": "here:1"}, 403),
        ({"origin": "null", "host": "here:1"}, 403),
        ({"origin": "http://here:1", "host": "here:1"}, 200),
        ({}, 200),
    ],
)
def test_a_page_of_another_site_changes_nothing(headers: dict[str, str], status: int) -> None:
    app = Limits(_echo, 10)
    assert ask(app, [b""], **headers)[0] == status
    assert ask(app, [b""], method="GET", **headers)[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8300", 200),
        ("127.0.0.1:8300", 200),
        ("[::1]:8300", 200),
        ("[::1]", 200),
        ("localhost", 200),
        ("evil.example:8300", 403),
        ("", 403),
    ],
)
def test_without_keys_only_loopback_is_answered(host: str, status: int) -> None:
    assert ask(LoopbackHosts(_echo), [b""], host=host)[0] == status


def test_every_answer_has_the_headers_of_a_careful_site() -> None:
    headers = ask(Limits(_echo, 10), [b""])[1]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
