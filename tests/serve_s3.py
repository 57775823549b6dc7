"""moto on a port, one write at a time: S3 decides If-None-Match atomically, moto does not.

python tests/serve_s3.py PORT

Two kinds of buckets are as wrong as servers have been seen to be:
`careless-…` ignores If-None-Match where an upload in parts ends (Ceph RGW 16.2);
`racy-…` looks whether the name is free, and writes a moment later (SeaweedFS 4.16).
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_one_write = threading.Lock()


def serial_writes(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The application, entered by one write at a time, each with its body read to the end."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        size = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(size))
        if environ["PATH_INFO"].startswith("/careless-") and "uploadId" in environ["QUERY_STRING"]:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if environ["PATH_INFO"].startswith("/racy-") and _is_free(app, environ):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with _one_write:
            return app(environ, start_response)

    return call


_MOMENT_S = 0.05
"""How long a racy bucket takes from its look to its write: long enough for others to look too."""


def _is_free(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> bool:
    """Whether a HEAD finds nothing there; then a moment passes."""
    if "HTTP_IF_NONE_MATCH" not in environ:
        return False
    answers: list[str] = []
    look = {**environ, "REQUEST_METHOD": "HEAD", "QUERY_STRING": "", "CONTENT_LENGTH": "0"}
    look = {k: v for k, v in look.items() if k != "HTTP_IF_NONE_MATCH"} | {
        "wsgi.input": io.BytesIO()
    }
    with _one_write:
        for _ in app(look, lambda status, *_: answers.append(status)):
            pass
    time.sleep(_MOMENT_S)
    return answers[0].startswith("404")


if __name__ == "__main__":
    app = serial_writes(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
