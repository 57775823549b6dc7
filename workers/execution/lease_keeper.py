"""Keeps the leases of the chunks that one worker holds: marks, heartbeat, and stop requests.

Correctness does not depend on Redis here: without it the work continues, and the part decides.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from headrace.coordination.leases import (
    ENCODING,
    FORWARD,
    HANGING,
    LOADING,
    READING,
    WRITING,
    LeaseBook,
    Mark,
)
from headrace.coordination.live_workers import WorkInHand, add_heartbeat
from headrace.coordination.redis_clock import RedisClock
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient
from schemas.errors import HeadraceError, LeaseLost, Stopped
from schemas.names import redis_keys
from workers.execution.drain import Drain, WorkerLimits

log = get_logger(__name__)

_LOOK_S = 5.0  # chosen: as often as the controller looks for cancel and pause in the store
_BEAT_S = 1.0  # chosen: progress is for people, and a second is soon enough


class ChunkControl:
    """The pipeline's `Control` for one chunk."""

    def __init__(self, held: LeaseKeeper, chunk: int, rows: int, mark: Mark) -> None:
        self._held = held
        self._chunk = chunk
        self._rows = rows
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self.mark = mark
        self.lost = False
        self._ended = False
        self.rows_done = 0
        self.note = ""
        """Progress in words, for a person."""
        self._in_hand: frozenset[int] = frozenset()
        self._disk_since_monotonic: dict[object, float] = {}

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Marks that this chunk waits for a mounted folder, which may never answer, inside the block."""
        wait = object()  # a thread reads ahead while another writes
        self._disk_since_monotonic[wait] = time.monotonic()
        try:
            yield
        finally:
            del self._disk_since_monotonic[wait]

    def hangs(self, limit_s: float) -> bool:
        """Whether the folder has not answered for that long."""
        waits = list(self._disk_since_monotonic.values())
        return any(time.monotonic() - since > limit_s for since in waits)

    def give_up(self, stage: str, limit_s: float) -> None:
        """Let another worker take the chunk, and leave a mark with the reason."""
        with self._lock:
            self.mark = self.mark.doing(
                stage, self._held.clock.now(), rows=(), encoding=None, limit_s=limit_s
            )
            self._hold()
            self._ended = True
        try:
            self._held.book.abandon(self._chunk, self.mark.attempt)
        except redis.RedisError as error:  # the lease expires by itself
            self._held.redis_away(error)

    def begin(self, trace_id: str = "") -> None:
        """Start the attempt; its trace is put into the mark for the process that may record its end."""
        self._say(READING, begun_s=time.time(), trace_id=trace_id)

    def check(self) -> None:
        if self.lost:
            raise LeaseLost(f"another attempt holds chunk {self._chunk}")
        reason = self._held.stop_reason()
        if reason == "drain" and self._fits():
            return
        if reason:
            raise Stopped(reason)

    def forwarding(self, rows: Sequence[int]) -> None:
        in_hand = frozenset(rows)  # batches overlap: rows that are no longer current are done
        self.rows_done += len(self._in_hand - in_hand)
        self._held.progressed()
        self._in_hand = in_hand
        if self._started_at is None:
            self._started_at = time.time()
        self._say(FORWARD if len(rows) else WRITING, rows=tuple(rows))

    def progressed(self, rows: int, note: str) -> None:
        """How far a piece of work without batches of rows is, in rows and in words."""
        self.rows_done, self.note = rows, note
        self._held.progressed()

    def advanced(self, to: int) -> None:
        """The attempt has committed something that the next one goes on from; `to` only grows."""
        self._say(FORWARD, advanced=to)

    def encoding(self, start: int, stop: int) -> None:
        self._say(ENCODING, encoding=(start, stop) if stop > start else None)

    def end(self) -> None:
        """Stop holding: a heartbeat in progress must not retake what is released."""
        with self._lock:
            self._ended = True

    def renew(self) -> None:
        """Renew the lease for another lease time; called by the heartbeat."""
        with self._lock:
            self._hold()

    def _say(self, stage: str, **changes: Any) -> None:
        with self._lock:
            self.mark = self.mark.doing(stage, self._held.clock.now(), **changes)
            self._hold()
        self._held.watch()

    def _hold(self) -> None:
        if self.lost or self._ended or self._held.is_away():
            return
        began = time.monotonic()
        try:
            self.lost = not self._held.book.hold(self._chunk, self.mark)
        except redis.RedisError as error:
            self._held.redis_away(error, time.monotonic() - began)

    def _fits(self) -> bool:
        """Whether the current chunk can be finished within the remaining grace time."""
        if self._started_at is None or not self.rows_done:
            return False
        seconds_per_row = (time.time() - self._started_at) / self.rows_done
        return (
            time.time() + seconds_per_row * (self._rows - self.rows_done)
            <= self._held.drain.deadline_at
        )


class LeaseKeeper:
    """Takes, keeps and releases the chunks of one message; leaving the context ends the heartbeat."""

    def __init__(
        self,
        client: RedisClient,
        job: str,
        worker: str,
        limits: WorkerLimits,
        drain: Drain,
        *,
        on_redis_away: Callable[[Exception], None] = lambda error: None,
        facts: dict[str, str] | None = None,
        flags_in_store: Callable[[], set[str]] = set,
        on_hang: Callable[[], object] = lambda: None,
    ) -> None:
        """`flags_in_store` reads `cancelled`, `paused` from the output, for when Redis is unreachable.

        `on_hang` ends the process, from the heartbeat's thread: there is no other way to end a
        read or a write that never returns.
        """
        self.book = LeaseBook(client, job, limits.lease_s)
        self.drain = drain
        self.clock = RedisClock(client)
        self._client = client
        self._job = job
        self._worker = worker
        self._limits = limits
        self._on_redis_away = on_redis_away
        self._facts = facts or {}
        self._flags_in_store = flags_in_store
        self._on_hang = on_hang
        self._looked_monotonic = float("-inf")
        self._progress_at: float | None = None
        self._controls: dict[int, ChunkControl] = {}
        self._flags: set[str] = set()
        self._away_until_monotonic = 0.0
        self._load_since_monotonic: float | None = None
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._beats, name="headrace-heartbeat", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._beat.start()
        return self

    def __exit__(self, *error: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._ended.set()
        self._beat.join()
        for chunk in list(self._controls):
            self.release(chunk)
        self._sign(last=True)

    def take(self, chunk: int, rows: int, attempt: str) -> tuple[ChunkControl | None, Mark | None]:
        """The control of a chunk now leased, and the mark of an earlier crash not yet recorded.

        If Redis is unreachable the chunk is taken all the same: the part decides.
        """
        mark = Mark(
            attempt, self._worker, since_s=self.clock.now(), limit_s=self._limits.batch_timeout_s
        )
        try:
            taken, old = self.book.take(chunk, mark)
        except redis.RedisError as error:
            self.redis_away(error)
            taken, old = True, None
        if not taken:
            return None, None
        self._controls[chunk] = ChunkControl(self, chunk, rows, mark)
        return self._controls[chunk], old

    def progressed(self) -> None:
        """A batch goes to the device, or the last one has come back."""
        self._progress_at = self.clock.now()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Marks that all chunks wait for the model, which may never be there, inside the block."""
        self._load_since_monotonic = time.monotonic()
        try:
            yield
        finally:
            self._load_since_monotonic = None

    def loaded(self, model: str) -> None:
        """Note the model on the device; empty: one is being loaded."""
        self._facts = {**self._facts, "model": model}

    def say_busy(self) -> None:
        """Report the chunks held at once: a message shorter than a heartbeat counts as work too."""
        if not self.is_away():
            self._sign()

    def release(self, chunk: int) -> None:
        control = self._controls.pop(chunk, None)
        if control is None:
            return
        control.end()
        try:
            self.book.release(chunk, control.mark.attempt)
        except redis.RedisError as error:
            self.redis_away(error)

    def stop_reason(self) -> str | None:
        """`cancelled`, `paused` or `drain`; None: continue."""
        for flag in ("cancelled", "paused"):
            if flag in self._flags:
                return flag
        return "drain" if self.drain.asked.is_set() else None

    def watch(self) -> None:
        """End this process if the rows in the model or the tokenizer take too long.

        faulthandler's timer is a thread in C: it ends the process even if Python cannot run.
        """
        busy = any(c.mark.rows or c.mark.encoding for c in list(self._controls.values()))
        if busy:
            # the record of the crash must find the limit passed, hence the margin
            limit = self._limits.batch_timeout_s + 0.1
            faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__ or sys.stderr)
        else:
            faulthandler.cancel_dump_traceback_later()

    def redis_away(self, error: Exception, took_s: float = 0.0) -> None:
        """Redis failed after that many seconds; do not call it for as long again, at least 1 s.

        Otherwise each batch of an outage would wait for it: 20 s if Redis hangs.
        """
        self._away_until_monotonic = time.monotonic() + max(_BEAT_S, took_s)
        self._on_redis_away(error)

    def is_away(self) -> bool:
        return time.monotonic() < self._away_until_monotonic

    def _beats(self) -> None:
        renewed_monotonic = time.monotonic()
        while not self._ended.wait(min(_BEAT_S, self._limits.lease_s / 3)):
            if time.monotonic() - renewed_monotonic >= self._limits.lease_s / 3:
                renewed_monotonic = time.monotonic()
                for control in list(self._controls.values()):
                    control.renew()
            self._sign()
            self._end_if_disk_hangs()
            self._end_if_load_hangs()

    def _end_if_disk_hangs(self) -> None:
        """Release everything and end the process if a mounted folder has not answered in time."""
        limit_s = self._limits.batch_timeout_s
        hanging = {n for n, control in dict(self._controls).items() if control.hangs(limit_s)}
        if hanging:
            self._give_up(hanging, HANGING, limit_s)
            log.error("disk.hangs", worker=self._worker, chunks=len(hanging), seconds=limit_s)
            self._on_hang()

    def _end_if_load_hangs(self) -> None:
        """The same if the model is not there in time; the first chunk has the record."""
        since, limit_s = self._load_since_monotonic, self._limits.load_timeout_s
        if since is not None and time.monotonic() - since > limit_s:
            self._give_up(set(list(self._controls)[:1]), LOADING, limit_s)
            log.error("load.hangs", worker=self._worker, seconds=limit_s)
            self._on_hang()

    def _give_up(self, hanging: set[int], stage: str, limit_s: float) -> None:
        """Let others take all chunks; these have a mark with the reason."""
        for chunk, control in dict(self._controls).items():
            if chunk in hanging:
                control.give_up(stage, limit_s)
            else:
                self.release(chunk)

    def _told(self, hand: str) -> dict[str, Any]:
        told = {**self._facts, "hand": hand}
        return told if self._progress_at is None else told | {"progress_s": self._progress_at}

    def _sign(self, last: bool = False) -> None:
        """Report the progress, and read whether the job was cancelled or paused."""
        live: dict[Any, Any] = {
            c.mark.attempt: json.dumps(_live(n, c)) for n, c in list(self._controls.items())
        }
        holding = {n: c.mark.attempt for n, c in list(self._controls.items())}
        hand = WorkInHand(self._job, holding).dumps()
        try:
            pipe = self._client.pipeline(transaction=False)
            if live:
                pipe.hset(redis_keys.live(self._job), mapping=live)
                pipe.expire(redis_keys.live(self._job), redis_keys.JOB_LIFE_S)
            add_heartbeat(pipe, self._worker, self._told(hand), self.clock.now())
            pipe.hmget(redis_keys.job(self._job), "cancelled", "paused")
            cancelled, paused = pipe.execute()[-1]
        except redis.RedisError as error:
            self.redis_away(error)
            if not last:
                self._look_in_store()
            return
        if not last:
            self._flags = {n for n, v in (("cancelled", cancelled), ("paused", paused)) if v}

    def _look_in_store(self) -> None:
        """Read from the output, without Redis, whether the job was cancelled or paused."""
        if time.monotonic() - self._looked_monotonic < _LOOK_S:
            return
        self._looked_monotonic = time.monotonic()
        try:
            self._flags = self._flags_in_store()
        except HeadraceError:  # the store is unreachable as well: keep the last known state
            pass


def _live(chunk: int, control: ChunkControl) -> dict[str, Any]:
    """What is reported of a chunk that is held."""
    found = {"chunk": chunk, "rows": control.rows_done, "stage": control.mark.stage}
    return found | {"note": control.note} if control.note else found
