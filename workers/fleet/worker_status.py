"""What this host's workers do right now, as they tell it in Redis; for choosing who goes, and health."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from headrace.coordination.live_workers import forget_workers
from schemas.names import redis_keys

LOOK_S = 1.0  # chosen: a worker's heartbeat comes once a second


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker: it has told Redis that it serves, and perhaps what it has in hand."""

    seen_s: float
    hand: str
    rows: str
    progress_at: float
    """When hand or rows last changed. Seconds since the epoch, as `seen_s`."""
    model: str = ""
    """What is loaded; empty: nothing yet."""


@dataclass(slots=True)
class WorkerStatusPoller:
    """Looks once a second, in a thread; with Redis away the last that was seen holds."""

    client: Any
    names: Callable[[], Sequence[str]]
    doing: dict[str, WorkerStatus] = field(default_factory=dict)
    redis_answers: bool = False
    _gone: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="headrace-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def ended(self, name: str) -> None:
        """A worker has ended: nobody shall count it any more, unless its slot has a new one."""
        self._gone.append(name)

    def forget(self, names: Iterable[str]) -> None:
        """Take these workers out of what Redis knows; it would by itself, 15 s later."""
        try:
            forget_workers(self.client, list(names))
        except redis.RedisError:
            return

    def look(self) -> None:
        """Read what each worker told; a worker that is gone is forgotten."""
        names = list(self.names())
        gone, self._gone = self._gone, []
        self.forget(set(gone) - set(names))
        try:
            pipe = self.client.pipeline(transaction=False)
            for name in names:
                pipe.hmget(redis_keys.worker(name), "seen_s", "hand", "model")
            told = pipe.execute()
            rows = self._rows([_text(hand) for _, hand, _ in told])
        except redis.RedisError:
            self.redis_answers = False
            return
        self.redis_answers = True
        self.doing = {
            name: self._seen(name, float(seen), _text(hand), live, _text(model))
            for name, (seen, hand, model), live in zip(names, told, rows, strict=True)
            if seen is not None
        }

    def _seen(self, name: str, seen_s: float, hand: str, rows: str, model: str) -> WorkerStatus:
        before = self.doing.get(name)
        if before is not None and (before.hand, before.rows) == (hand, rows):
            return WorkerStatus(seen_s, hand, rows, before.progress_at, model)
        return WorkerStatus(seen_s, hand, rows, time.time(), model)

    def _rows(self, hands: Sequence[str]) -> list[str]:
        """What each worker's attempts have scored so far, as it stands in `headrace:live`."""
        pipe = self.client.pipeline(transaction=False)
        asked = []
        for hand in hands:
            job, attempts = _attempts(hand)
            asked.append(bool(attempts))
            if attempts:
                pipe.hmget(redis_keys.live(job), attempts)
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
