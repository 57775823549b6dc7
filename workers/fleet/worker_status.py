"""The current status of this host's workers, read from Redis; for placement and health."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import redis

from headrace.coordination.live_workers import (
    WorkerSign,
    WorkInHand,
    forget_workers,
    read_signs,
)
from headrace.redis_client import RedisClient
from schemas.names import redis_keys

LOOK_S = 1.0  # chosen: a worker's heartbeat comes once per second


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The last status of one worker in Redis."""

    seen_at: float
    """When this host first read its last sign, by this host's clock."""
    work: WorkInHand
    rows: str
    progress_at: float
    """When work or rows last changed. Seconds since the epoch, as `seen_at`."""
    model: str = ""
    """What is loaded; empty: nothing yet."""
    sign_s: float = 0.0
    """When it signed last, by Redis's clock."""


@dataclass(slots=True)
class WorkerStatusPoller:
    """Reads once per second, in a thread; if Redis is unreachable the last status is kept."""

    client: RedisClient
    names: Callable[[], Sequence[str]]
    doing: dict[str, WorkerStatus] = field(default_factory=dict)
    redis_answers: bool = False
    _gone: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(
            target=self._run, name="headrace-worker-status", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def ended(self, name: str) -> None:
        """Note that a worker has ended; it no longer counts, unless its slot has a new one."""
        self._gone.append(name)

    def forget(self, names: Iterable[str]) -> None:
        """Remove these workers from Redis; their records would expire 15 s later."""
        try:
            forget_workers(self.client, list(names))
        except redis.RedisError:
            return

    def look(self) -> None:
        """Read the status of each worker; workers that are gone are removed."""
        names = list(self.names())
        gone, self._gone = self._gone, []
        self.forget(set(gone) - set(names))
        try:
            signs = read_signs(self.client, names)
            rows = self._rows([sign.work for sign in signs.values()])
        except redis.RedisError:
            self.redis_answers = False
            return
        self.redis_answers = True
        self.doing = {
            name: self._seen(name, sign, live)
            for (name, sign), live in zip(signs.items(), rows, strict=True)
        }

    def _seen(self, name: str, sign: WorkerSign, rows: str) -> WorkerStatus:
        before = self.doing.get(name)
        is_same = before is not None and (before.work, before.rows) == (sign.work, rows)
        progress_at = before.progress_at if before is not None and is_same else time.time()
        is_old = before is not None and before.sign_s == sign.seen_s
        seen_at = before.seen_at if before is not None and is_old else time.time()
        return WorkerStatus(seen_at, sign.work, rows, progress_at, sign.model, sign.seen_s)

    def _rows(self, in_hand: Sequence[WorkInHand]) -> list[str]:
        """Rows that each worker's attempts have scored so far, from `headrace:live`."""
        pipe = self.client.pipeline(transaction=False)
        for work in in_hand:
            if work.attempts:
                pipe.hmget(redis_keys.live(work.job), list(work.attempts.values()))
        answers = iter(pipe.execute())
        return [repr(next(answers)) if work.attempts else "" for work in in_hand]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(LOOK_S)
