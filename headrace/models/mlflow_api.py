"""Calls of an MLflow server's REST API, with the standard library alone.

Source: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from schemas.errors import ConfigError, ModelRegistryError, StorageError

SCHEMES = ("mlflow+http://", "mlflow+https://")
ANSWER_S = 20.0
"""Chosen: longer than a tracking server with a busy database takes."""
MOST_BYTES = 32 << 20
"""Of an answer; chosen: a page of 200 versions with long descriptions has 2 MB."""
PAGE = 200
ABSENT = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"


class Refused(ModelRegistryError):
    """The server answered with an error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        """As MLflow names it, e.g. `RESOURCE_DOES_NOT_EXIST`."""


class MlflowApi:
    """An MLflow server.

    `token`: a bearer token, or USER:PASSWORD; a user and a password may also be in the address.
    """

    def __init__(self, uri: str, token: str | None = None) -> None:
        wrong = "the address of an MLflow server is mlflow+http://HOST:PORT, or +https"
        try:
            parts = urlsplit(uri.removeprefix("mlflow+"))
            has_port = parts.port != 0
        except ValueError as error:  # half an IPv6 address, or a port that is none
            raise ConfigError(wrong) from error
        if not (parts.hostname and has_port) or parts.query or parts.fragment:
            raise ConfigError(wrong)
        place = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{place}{parts.path.rstrip('/')}"
        """Without user and password."""
        login = None if parts.username is None else f"{parts.username}:{parts.password or ''}"
        self._authorization = _authorization(token or (None if login is None else unquote(login)))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """What the server has at `/api/2.0/mlflow/` and the path.

        Raises:
            Refused: it answered with an error.
            StorageError: it did not answer, or with something else than JSON.
        """
        return self._call("GET", f"{path}?{urlencode(query)}", None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST; raises as `get`."""
        return self._call("POST", path, body)

    def pages(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages of a search, under their key; raises as `get`."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self.get(path, max_results=PAGE, **query, **more)
            yield from page.get(key) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api/2.0/mlflow/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        if self._authorization is not None:  # not sent on where the server sends us elsewhere
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urlopen(request, timeout=ANSWER_S) as answer:
                return self._parsed(answer.read(MOST_BYTES))
        except HTTPError as error:
            raise self._refused(error.code, error.read(MOST_BYTES)) from error
        except (OSError, HTTPException) as error:
            raise StorageError(f"the MLflow server {self.url} does not answer: {error}") from error

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            found = json.loads(data or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise StorageError(
                f"{self.url} does not answer as an MLflow server does: no JSON object"
            )
        return found

    def _refused(self, status: int, data: bytes) -> Exception:
        try:
            found = json.loads(data)
            code, message = str(found["error_code"]), str(found.get("message", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            if status >= 500:
                return StorageError(f"the MLflow server {self.url} fails (HTTP {status})")
            code, message = str(status), f"HTTP {status}"
        if status in (401, 403):
            message += "; set HEADRACE_MODEL_REGISTRY_TOKEN to a token or USER:PASSWORD"
        return Refused(f"the MLflow server {self.url} refuses: {message}", code)


def _authorization(token: str | None) -> str | None:
    if token is None:
        return None
    if ":" in token:
        return "Basic " + base64.b64encode(token.encode()).decode()
    return f"Bearer {token}"
