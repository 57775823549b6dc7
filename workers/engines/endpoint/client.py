"""HTTP: one request to the API, tried again as its answers say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.errors import EndpointAway, InvalidRow, ModelError
from workers.engines.endpoint.retries import Verdict, verdict

CONNECT_S = 10.0
MOST_MESSAGE = 300
"""Letters of an API's own words that a row's error keeps."""
MOST_BYTES = 64 << 20
"""Of an answer. Chosen: a hundred times the longest that a model writes."""


class Ended(Exception):
    """The requests are not wanted any more."""


@dataclass(slots=True)
class Client:
    """Requests to one API, from several threads at once."""

    address: str
    """Up to `/v1`."""
    key: str | None
    timeout_s: float
    """Of one answer."""
    connections: int
    stop: threading.Event = field(default_factory=threading.Event)
    """Once set, no request is made and none waits."""
    _not_before: float = 0.0
    """Monotonic: the API asked everybody to wait until then."""
    _pool: Any = None

    def __post_init__(self) -> None:
        import urllib3

        timeout = urllib3.Timeout(connect=CONNECT_S, read=self.timeout_s)
        self._pool = urllib3.PoolManager(maxsize=self.connections, retries=False, timeout=timeout)

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The API's answer to a request for a chat completion.

        Raises:
            InvalidRow: this request has no answer. EndpointAway: none has now.
            ModelError: none ever has: the key, the address or the model is refused.
            Ended: `stop` was set.
        """
        data = json.dumps(body, ensure_ascii=False).encode()
        tries = 0
        while True:
            self._wait(max(0.0, self._not_before - time.monotonic()))
            tries += 1
            status, headers, answer = self._post(data)
            found = verdict(status, headers, tries, datetime.now(UTC))
            if found.kind == "ok":
                return _parsed(answer)
            if found.kind != "later":
                raise self._error(found, status, headers, answer)
            if found.all_wait:
                self._not_before = max(self._not_before, time.monotonic() + found.wait_s)
            self._wait(found.wait_s)

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds) if seconds else self.stop.is_set():
            raise Ended

    def _post(self, data: bytes) -> tuple[int | None, Mapping[str, str], bytes]:
        """Status, headers by small names, body. Status None: nothing was answered; 0: not in time."""
        import urllib3
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            reply = self._pool.request(
                "POST", f"{self.address}/chat/completions", body=data, headers=headers,
                redirect=False, preload_content=False,
            )  # fmt: skip
            answer = bytes(reply.read(MOST_BYTES))
            reply.release_conn()
        except ReadTimeoutError:
            return 0, {}, b""
        except (HTTPError, OSError) as error:
            return None, {}, type(error).__name__.encode()
        assert isinstance(reply, urllib3.BaseHTTPResponse)
        return reply.status, {k.lower(): v for k, v in reply.headers.items()}, answer

    def _error(
        self, found: Verdict, status: int | None, headers: Mapping[str, str], answer: bytes
    ) -> Exception:
        said = _message(answer) if status else answer.decode()
        what = {None: f"does not answer ({said})", 0: f"gave no answer in {self.timeout_s:g} s"}
        words = what.get(status, f"answered {status}: {said}".removesuffix(": "))
        if found.kind == "row":
            return InvalidRow(f"the endpoint {words}")
        if found.kind == "away":
            return EndpointAway(f"{self.address} {words}")
        hint = "; set HEADRACE_ENDPOINT_KEY for the workers" if status in (401, 403) else ""
        if status and 300 <= status < 400:  # not followed: the key would be sent there
            to = headers.get("location", "").partition("?")[0][:MOST_MESSAGE]
            hint = f"; it sends to {to or 'another place'}: give that address with --endpoint"
        return ModelError(f"{self.address} {words}{hint}")


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRow("the endpoint's answer is no JSON object")
    return found


def _message(answer: bytes) -> str:
    """What an API says of an error, in OpenAI's form or as it is."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return answer.decode(errors="replace")[:MOST_MESSAGE]
    return words_of(found)


def words_of(found: Any) -> str:
    """What an answer in JSON says of an error, in OpenAI's form or as it is."""
    error = found.get("error", found) if isinstance(found, dict) else found
    said = error.get("message", error) if isinstance(error, dict) else error
    return str(said)[:MOST_MESSAGE]
