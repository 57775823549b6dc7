"""Polls the controller every two seconds: how many workers of each queue this host should run."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from headrace.process.logs import get_logger
from schemas.errors import ConfigError
from workers.fleet.placement import QueueDemand

log = get_logger(__name__)

ASK_S = 2.0  # chosen: short beside a start-up of seconds, and little load for a thousand hosts
_ANSWER_S = 5.0
# Measured on two cores: 3 to 5 s from SIGTERM of an idle worker to the next one's first message.
START_S = 5.0


@dataclass(slots=True)
class ScalingClient:
    """The controller's answers for this host; before the first answer, the minimum in the first queue."""

    url: str
    queues: Sequence[str]
    slots: int
    least: int
    running: Callable[[str], int]
    """Workers of a queue that run here."""
    load_s: float = 60.0
    """Assumed load time in seconds of a model that no worker has loaded yet."""
    start_s: float = START_S
    """Seconds that a worker takes to stop and start again, without its model."""
    given_up: Callable[[], int] = lambda: 0
    """Slots out of use: another host should get their share."""
    asks: tuple[QueueDemand, ...] = ()
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _is_away: bool = False

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ConfigError(f"--controller {self.url!r} is not a URL such as http://host:8080")
        self.asks = tuple(
            QueueDemand(q, self._least(q), 0, least=self._least(q)) for q in self.queues
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="headrace-scaling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_ANSWER_S + ASK_S)

    def ask(self) -> None:
        """Ask once. An unreachable controller changes nothing: no answer does not mean zero."""
        try:
            found = tuple(self._one(queue) for queue in self.queues)
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            if not self._is_away:
                log.warning("scaling.unreachable", url=self.url, error_type=type(error).__name__)
            self._is_away = True
            return
        self._is_away = False
        self.asks = found

    def _one(self, queue: str) -> QueueDemand:
        slots = self.slots - self.given_up()
        facts = {
            "queue": queue,
            "host": socket.gethostname(),
            "slots": slots,
            "running": self.running(queue),
        }
        url = f"{self.url.rstrip('/')}/scale?{urlencode(facts)}"
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
            told: dict[str, Any] = json.load(answer)
        least = self._least(queue)
        load_s = told["load_s"]
        return QueueDemand(
            queue,
            share=max(least, min(slots, int(told["share"]))),
            chunks=int(told["backlog_chunks"]),
            work_s=float(told["work_s"]),
            change_s=self.start_s + (self.load_s if load_s is None else float(load_s)),
            least=least,
        )

    def _least(self, queue: str) -> int:
        return min(self.least, self.slots) if queue == self.queues[0] else 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.ask()
            self._stopping.wait(ASK_S)
