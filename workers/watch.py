"""What this host's workers do right now, as they tell it in Redis; for choosing who goes, and health."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from schemas import keys

LOOK_S = 1.0  # chosen: a worker's heartbeat comes once a second


@dataclass(frozen=True, slots=True)
class Doing:
    """One worker: it has told Redis that it serves, and perhaps what it has in hand."""

    seen_s: float
    hand: str
    rows: str
    progress_s: float
    """When hand or rows last changed. Seconds since the epoch, as `seen_s`."""


@dataclass(slots=True)
class Watch:
    """Looks once a second, in a thread; with Redis away the last that was seen holds."""

    client: Any
    names: Callable[[], Sequence[str]]
    doing: dict[str, Doing] = field(default_factory=dict)
    redis_answers: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="headrace-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def look(self) -> None:
        """Read what each worker told; a worker that is gone is forgotten."""
        names = list(self.names())
        try:
            pipe = self.client.pipeline(transaction=False)
            for name in names:
                pipe.hmget(keys.worker(name), "seen_s", "hand")
            told = pipe.execute()
            rows = self._rows([_text(hand) for _, hand in told])
        except redis.RedisError:
            self.redis_answers = False
            return
        self.redis_answers = True
        self.doing = {
            name: self._seen(name, float(seen), _text(hand), live)
            for name, (seen, hand), live in zip(names, told, rows, strict=True)
            if seen is not None
        }

    def _seen(self, name: str, seen_s: float, hand: str, rows: str) -> Doing:
        before = self.doing.get(name)
        if before is not None and (before.hand, before.rows) == (hand, rows):
            return Doing(seen_s, hand, rows, before.progress_s)
        return Doing(seen_s, hand, rows, time.time())

    def _rows(self, hands: Sequence[str]) -> list[str]:
        """What each worker's attempts have scored so far, as it stands in `headrace:live`."""
        pipe = self.client.pipeline(transaction=False)
        asked = []
        for hand in hands:
            job, attempts = _attempts(hand)
            asked.append(bool(attempts))
            if attempts:
                pipe.hmget(keys.live(job), attempts)
        answers = iter(pipe.execute())
        return [repr(next(answers)) if was else "" for was in asked]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(LOOK_S)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _attempts(hand: str) -> tuple[str, list[str]]:
    try:
        found = json.loads(hand) if hand else {}
        return str(found.get("job", "")), [str(a) for a in found.get("chunks", {}).values()]
    except (ValueError, AttributeError):
        return "", []
