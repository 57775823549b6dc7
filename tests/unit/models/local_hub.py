"""A hub on a socket of this machine: the calls that headrace makes, for one model's folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/name"


@contextmanager
def local_hub(folder: Path, asked: list[str] | None = None) -> Iterator[str]:
    """The endpoint of a hub with the folder as `org/name`; `asked` gets the paths of all calls."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if asked is not None:
                asked.append(path)
            if path.startswith(f"/api/models/{NAME}"):
                listed: object = _listing(folder)
                if "/tree/" in path:
                    listed = [
                        {"type": "file", "path": name, "size": size, "oid": name}
                        for name, size in _sizes(folder).items()
                    ]
                self._send(json.dumps(listed).encode(), "application/json")
                return
            name = path.partition(f"/{NAME}/resolve/{COMMIT}/")[2]
            if not name or not (folder / name).is_file():
                self._missing()
                return
            self._send((folder / name).read_bytes(), "application/octet-stream")

        def _send(self, data: bytes, kind: str) -> None:
            start, code = 0, 200
            wanted = self.headers.get("Range", "").removeprefix("bytes=")
            if wanted:
                low, _, high = wanted.partition("-")
                start, code = int(low), 206
                data = data[start : int(high) + 1 if high else None]
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _missing(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def use(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process ask that hub, with an empty cache."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)


def _sizes(folder: Path) -> dict[str, int]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in files}


def _listing(folder: Path) -> dict[str, object]:
    siblings = [{"rfilename": name, "size": size} for name, size in _sizes(folder).items()]
    return {"id": NAME, "sha": COMMIT, "siblings": siblings}
