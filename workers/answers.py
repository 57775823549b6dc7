"""How many workers the controller wants on this host: asked every two seconds, the last answer kept."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from schemas.errors import ConfigError
from schemas.telemetry.logs import get_logger

log = get_logger(__name__)

ASK_S = 2.0  # chosen: soon enough against a start-up of seconds, and little for a thousand hosts
_ANSWER_S = 5.0


@dataclass(slots=True)
class Answers:
    """The controller's answer for this host. `workers` before the first one is `least`."""

    url: str
    queue: str
    slots: int
    least: int
    running: Callable[[], int]
    workers: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _is_away: bool = False

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ConfigError(f"--controller {self.url!r} is not a URL such as http://host:8080")
        self.workers = self.least

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="headrace-answers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_ANSWER_S + ASK_S)

    def ask(self) -> None:
        """Ask once. A controller that is away changes nothing: no answer is not a zero."""
        query = urlencode(
            {
                "queue": self.queue,
                "host": socket.gethostname(),
                "slots": self.slots,
                "running": self.running(),
            }
        )
        try:
            with urllib.request.urlopen(
                f"{self.url.rstrip('/')}/scale?{query}", timeout=_ANSWER_S
            ) as answer:
                share = int(json.load(answer)["share"])
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            if not self._is_away:
                log.warning("scaling.unreachable", url=self.url, error_type=type(error).__name__)
            self._is_away = True
            return
        self._is_away = False
        self.workers = max(self.least, min(self.slots, share))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.ask()
            self._stopping.wait(ASK_S)
