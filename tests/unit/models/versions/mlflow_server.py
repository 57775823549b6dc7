"""The part of MLflow's REST API that headrace calls, in memory, with the shapes of MLflow 3.17.2's answers.

`make test-mlflow` runs the same tests against MLflow itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, Any]]
PAGE = 2
"""Items of a page, whatever is asked for."""


class MlflowServer:
    """What is registered, and each request's Authorization header."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self.logged: dict[str, str] = {}
        """Artifact URIs of logged models by id."""
        self.authorizations: list[str | None] = []
        self.override: Callable[[str], tuple[int, bytes] | None] = lambda path: None
        """Answers in place of the server."""

    def answer(self, method: str, path: str, asked: dict[str, Any]) -> Answer:
        what = path.removeprefix("/api/2.0/mlflow/")
        known = {
            "GET registered-models/get": self._model,
            "GET registered-models/search": self._models,
            "GET registered-models/alias": self._alias,
            "GET model-versions/get": self._version,
            "GET model-versions/search": self._versions,
            "POST registered-models/create": self._create_model,
            "POST registered-models/alias": self._set_alias,
            "POST registered-models/set-tag": self._set_tag,
            "POST model-versions/create": self._create_version,
        }
        if what.startswith("logged-models/"):
            return 200, {"model": {"info": {"artifact_uri": self.logged[what.split("/")[1]]}}}
        return known[f"{method} {what}"](asked)

    def _model(self, asked: dict[str, Any]) -> Answer:
        model = self.models.get(asked["name"])
        return (200, {"registered_model": model}) if model else _absent(asked["name"])

    def _models(self, asked: dict[str, Any]) -> Answer:
        return _page("registered_models", list(self.models.values()), asked)

    def _alias(self, asked: dict[str, Any]) -> Answer:
        if asked["name"] not in self.models:
            return _absent(asked["name"])
        for it in self.models[asked["name"]]["aliases"]:
            if it["alias"] == asked["alias"]:
                return self._version({"name": asked["name"], "version": it["version"]})
        message = f"Registered model alias {asked['alias']} not found."
        return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}

    def _version(self, asked: dict[str, Any]) -> Answer:
        found = self.versions.get((asked["name"], str(asked["version"])))
        return (200, {"model_version": found}) if found else _absent(asked["name"])

    def _versions(self, asked: dict[str, Any]) -> Answer:
        name = asked["filter"].removeprefix("name='").removesuffix("'")
        found = [v for v in self.versions.values() if v["name"] == name]
        return _page("model_versions", found[::-1], asked)  # MLflow has the newest first

    def _create_model(self, asked: dict[str, Any]) -> Answer:
        if asked["name"] in self.models:
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "exists"}
        self.models[asked["name"]] = {
            "name": asked["name"], "creation_timestamp": 1_795_983_028_779,
            "last_updated_timestamp": 1_795_983_028_779, "tags": [], "aliases": [],
        }  # fmt: skip
        return 200, {"registered_model": self.models[asked["name"]]}

    def _set_alias(self, asked: dict[str, Any]) -> Answer:
        model = self.models[asked["name"]]
        others = [a for a in model["aliases"] if a["alias"] != asked["alias"]]
        model["aliases"] = [*others, {"alias": asked["alias"], "version": asked["version"]}]
        return 200, {}

    def _set_tag(self, asked: dict[str, Any]) -> Answer:
        model = self.models[asked["name"]]
        others = [t for t in model["tags"] if t["key"] != asked["key"]]
        model["tags"] = [*others, {"key": asked["key"], "value": asked["value"]}]
        return 200, {}

    def _create_version(self, asked: dict[str, Any]) -> Answer:
        if "://" not in asked["source"] and not asked["source"].startswith("models:/m-"):
            message = f"Invalid model version source: '{asked['source']}'."
            return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        number = str(1 + sum(name == asked["name"] for name, _ in self.versions))
        self.versions[asked["name"], number] = {
            "version": number, "creation_timestamp": 1_795_983_097_856, "current_stage": "None",
            "run_id": "", "status": "READY", "run_link": "", **asked,
        }  # fmt: skip
        return 200, {"model_version": self.versions[asked["name"], number]}


def _absent(name: str) -> Answer:
    message = f"Registered Model with name={name} not found"
    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": message}


def _page(key: str, found: list[Any], asked: dict[str, Any]) -> Answer:
    start = int(asked.get("page_token", 0))
    more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(found) else {}
    items = found[start : start + PAGE]
    return 200, ({key: items} if items else {}) | more


@contextmanager
def running_mlflow_server() -> Iterator[tuple[MlflowServer, str]]:
    """A server on a free port, and its URL."""
    state = MlflowServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(dict(parse_qsl(urlsplit(self.path).query)))

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, asked: dict[str, Any]) -> None:
            state.authorizations.append(self.headers["Authorization"])
            path = urlsplit(self.path).path
            instead = state.override(path)
            if instead is None:
                status, body = state.answer(self.command, path, asked)
                instead = (status, json.dumps(body).encode())
            self.send_response(instead[0])
            self.send_header("Content-Length", str(len(instead[1])))
            self.end_headers()
            self.wfile.write(instead[1])

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
