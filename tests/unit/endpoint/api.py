"""An API that speaks OpenAI's chat completions, over a real socket: it answers with the text reversed.

What a message says makes it do otherwise: `status 500`, `slow`, `once 429`.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-of-a-test"


@dataclass
class Api:
    """The API, and what it was asked."""

    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    """Until it is set, messages with `slow` have no answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        """Status, headers and answer to a request."""
        text = str(body["messages"][-1]["content"])
        with self.lock:
            self.asked.append(body)
            self.seen[text] += 1
        if "slow" in text:
            self.release.wait(20)
        if text.startswith("once 429") and self.seen[text] == 1:
            return 429, {"Retry-After": "0.05"}, {"error": {"message": "too many"}}
        if text.startswith("status "):
            status = int(text.split()[1])
            moved = {"Location": "https://api/v2/chat?key=1"} if status == 307 else {}
            return status, moved, {"error": {"message": "this is not for me"}}
        if text.startswith("broken"):
            return 200, {}, "no JSON"
        if text.startswith("{"):  # the answer itself
            return 200, {}, text
        said = '{"word": "yes"}' if "response_format" in body else text[::-1]
        choice = {
            "index": 0, "message": {"role": "assistant", "content": said},
            "finish_reason": "content_filter" if "filter" in text else "stop",
        }  # fmt: skip
        usage = {"prompt_tokens": len(text), "completion_tokens": len(said) + 1}
        return 200, {}, {"object": "chat.completion", "choices": [choice], "usage": usage}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving() -> Iterator[Api]:
    """A running API at a free port."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            api.keys.add(self.headers.get("Authorization", ""))
            with api.lock:
                api.at_once += 1
                api.most_at_once = max(api.most_at_once, api.at_once)
            is_ours = self.path == "/v1/chat/completions"
            status, headers, found = api.reply(json.loads(body)) if is_ours else (404, {}, {})
            with api.lock:
                api.at_once -= 1
            data = (found if isinstance(found, str) else json.dumps(found)).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    api.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
