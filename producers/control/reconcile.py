"""One job, followed: which chunks have a part, which are on their way, which are to be sent again.

The store is the truth. Redis is asked first because it is quick; before a chunk is sent again, and
before a job ends, the store is asked.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.coordination.attempts import (
    DEATHS,
    attempt_of_death,
    read_attempts,
    retry_decision,
)
from headrace.coordination.job_counters import (
    count_in,
    counted,
    reset_counters,
)
from headrace.coordination.leases import LeaseBook
from headrace.output.plan_file import PlanTable
from headrace.process.logs import get_logger
from headrace.queue.redis_queue import QueueView, announce_job
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.crash_trace import record_crash
from producers.control.dispatch_window import JobDemand
from producers.records.receipts import ReceiptBook, parts_of
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import (
    Parked,
    Receipt,
    parse_parked,
)

log = get_logger(__name__)

# Chosen: longer than a worker needs from taking a message to leasing its chunks (milliseconds,
# seconds where it first reads the plan), far shorter than a lease.
GRACE_S = 2.0
FLAGS_S = 5.0  # chosen: how often cancel and pause are looked for in the store
READY = 1_024  # chosen: more than one window can take

REFUSALS = 8  # chosen: more than the workers of one misconfigured host say before others answer

NEW, SENT, DONE, PARKED = 0, 1, 2, 3


@dataclass(slots=True)
class TrackedJob:
    """A job and what is known of each of its chunks. Not for threads."""

    job: Job
    store: Store
    plan: PlanTable
    client: Any
    controller: str
    emitter: Emitter = field(default_factory=Telemetry)
    """Where the spans of attempts go whose death is seen here."""
    keep_traces: bool = True
    """Whether those spans stand under `_traces/` too."""
    state: np.ndarray = field(init=False)
    """uint8 `[chunks]`: new, sent, done or parked."""
    book: ReceiptBook = field(init=False)
    cancelled: str | None = None
    """Why the job was stopped, when it was."""
    paused: bool = False
    fatal: str | None = None
    """Why the job can never end well: its input or its model changed."""
    error_rows: int = 0
    _missing: dict[int, float] = field(default_factory=dict)
    _not_before: dict[int, float] = field(default_factory=dict)
    _alone: set[int] = field(default_factory=set)
    """Chunks an attempt on which died: no neighbour shall share what they do to their worker."""
    _sent_s: dict[int, float] = field(default_factory=dict)
    """Chunks handed out, and when first; seconds since the epoch."""
    _at: int = 0
    _flags_s: float = 0.0

    def __post_init__(self) -> None:
        self.state = np.zeros(len(self.plan), dtype=np.uint8)
        self.book = ReceiptBook(self.job, self.store, self.client)

    # -- what is known

    def load(self) -> None:
        """Ask the store for everything: at the start, and when Redis has lost what it knew."""
        self.state[:] = NEW
        for info in self.store.list(output_layout.PARKED):
            chunk = output_layout.chunk_of_record(info.name)
            if chunk is not None and chunk < len(self.state):
                self.state[chunk] = PARKED
        for chunk in parts_of(self.store):
            if chunk < len(self.state):
                self.state[chunk] = DONE  # a part outranks a parked record
        self._missing.clear()
        self._at = 0
        self.read_flags()
        self._announce()

    def knows_redis(self) -> bool:
        """Whether Redis still holds what `load` put there."""
        return bool(self.client.hexists(redis_keys.job(self.job.key), "epoch"))

    def read_flags(self) -> None:
        """Cancel and pause, as the store has them; copied to Redis for the workers."""
        data = self.store.read(output_layout.CANCELLED)
        was_cancelled, was_paused = self.cancelled is not None, self.paused
        self.cancelled = None if data is None else _reason(data)
        self.paused = self.store.head(output_layout.PAUSED) is not None
        if self.cancelled is not None and not was_cancelled:
            log.info("job.cancelled", job=self.job.id, reason=self.cancelled)
        if self.paused and not was_paused:
            log.info("job.paused", job=self.job.id)
        self._flags_s = time.monotonic()
        key = redis_keys.job(self.job.key)
        for name, on in (("cancelled", self.cancelled is not None), ("paused", self.paused)):
            if on:
                self.client.hset(key, name, "1")
            else:
                self.client.hdel(key, name)

    @property
    def oldest_sent_s(self) -> float | None:
        """Since when the oldest chunk that has no part was handed out; None: all have one."""
        for chunk in [c for c in self._sent_s if self.state[c] >= DONE]:
            del self._sent_s[chunk]
        return min(self._sent_s.values(), default=None)

    @property
    def counts(self) -> dict[str, int]:
        sums = np.bincount(self.state, minlength=4)
        return {
            "new": int(sums[NEW]),
            "sent": int(sums[SENT]),
            "done": int(sums[DONE]),
            "parked": int(sums[PARKED]),
        }

    @property
    def is_settled(self) -> bool:
        """Nothing is left to be sent or waited for."""
        return bool(np.all(self.state >= DONE))

    # -- one tick

    def tick(self, queue: QueueView) -> None:
        """See who died, who is done, and what went missing. Raises redis-py's and store errors."""
        if time.monotonic() - self._flags_s > FLAGS_S:
            self.read_flags()
        book = LeaseBook(self.client, self.job.key, 1.0)
        marks = book.marks()
        alive = book.alive(marks)
        for chunk, mark in marks.items():
            if chunk not in alive and chunk < len(self.state):
                if self.store.head(output_layout.part(chunk)) is not None:
                    self._count([chunk])
                    self.state[chunk] = DONE
                else:
                    death = attempt_of_death(chunk, mark, time.time(), self.controller)
                    if death is not None:
                        record_crash(
                            self.job, self.store, death, mark, self.emitter, keep=self.keep_traces
                        )
                        self._alone.add(chunk)
                        log.warning(
                            "attempt.recorded", job=self.job.id, chunk=chunk, cause=death.cause
                        )
                    self._missing[chunk] = 0.0  # seen dead: no grace
                book.forget(chunk, mark)
        # a chunk leased by others (a run published by an earlier controller) is on its way too
        for chunk in alive:
            if chunk < len(self.state) and self.state[chunk] == NEW:
                self.state[chunk] = SENT
        self._follow_sent(alive, queue)
        self._count_errors()

    def _follow_sent(self, alive: set[int], queue: QueueView) -> None:
        sent = np.flatnonzero(self.state == SENT).tolist()
        if not sent:
            return
        told = self.book.take(sent)
        now = time.monotonic()
        for chunk in sent:
            if chunk in told:
                self.state[chunk] = DONE
                self._missing.pop(chunk, None)
            elif chunk in alive or (self.job.key, chunk) in queue.chunks:
                self._missing.pop(chunk, None)
            elif now - self._missing.setdefault(chunk, now) >= GRACE_S:
                self._lost(chunk)

    def _lost(self, chunk: int) -> None:
        """Neither queued, nor leased, nor told: the store says what became of it."""
        self._missing.pop(chunk, None)
        if self.store.head(output_layout.part(chunk)) is not None:
            self._count([chunk])
            self.state[chunk] = DONE
            return
        attempts = read_attempts(self.store, chunk)
        if any(a.cause in DEATHS for a in attempts):
            self._alone.add(chunk)
        rows = self.plan.chunk(chunk).rows
        decision = retry_decision(attempts, rows, self.job.options.max_attempts, random.random())
        if decision.parked is None:
            self.state[chunk] = NEW
            self._not_before[chunk] = time.monotonic() + decision.wait_s
            self._at = min(self._at, chunk)
            return
        if decision.parked in ("input_changed", "model_changed"):
            self.fatal = decision.message
        record = Parked(
            chunk=chunk,
            cause=decision.parked,
            message=decision.message,
            attempts=len(attempts),
            at_s=time.time(),
        )
        self.store.create(output_layout.parked(chunk), record.model_dump_json().encode())
        self.state[chunk] = PARKED
        log.error(
            "chunk.parked",
            job=self.job.id,
            chunk=chunk,
            cause=decision.parked,
            error_message=decision.message,
        )

    # -- publishing

    def claim(self) -> JobDemand:
        """What the job could send now."""
        ready = () if self.is_stopped else tuple(self._ready())
        counts = self.counts
        left = counts["new"] + counts["sent"]
        return JobDemand(
            self.job.key,
            self.job.options.priority,
            ready,
            counts["sent"],
            left,
            frozenset(self._alone.intersection(ready)),
        )

    @property
    def is_stopped(self) -> bool:
        return self.cancelled is not None or self.paused or self.fatal is not None

    def sent(self, chunks: tuple[int, ...]) -> None:
        self.state[list(chunks)] = SENT
        for chunk in chunks:
            self._sent_s.setdefault(chunk, time.time())

    def taken_back(self, chunks: tuple[int, ...]) -> None:
        """These were sent and no worker has them: they are sent again when it is their turn."""
        sent = [c for c in chunks if c < len(self.state) and self.state[c] == SENT]
        self.state[sent] = NEW
        for chunk in sent:
            self._sent_s.pop(chunk, None)
        self._at = min([self._at, *sent])

    def _ready(self) -> Iterator[int]:
        now = time.monotonic()
        new = (
            np.flatnonzero(self.state[self._at :] == NEW)[: READY + len(self._not_before)]
            + self._at
        )
        if len(new):
            self._at = int(new[0])
        for chunk in new.tolist():
            if self._not_before.get(chunk, 0.0) <= now:
                self._not_before.pop(chunk, None)
                yield chunk

    # -- the end

    def recount(self) -> bool:
        """List the parts in full; True when what we believe of them holds."""
        there = np.zeros(len(self.state), dtype=bool)
        for chunk in parts_of(self.store):
            if chunk < len(there):
                there[chunk] = True
        gone = np.flatnonzero((self.state == DONE) & ~there).tolist()
        found = np.flatnonzero(there & (self.state != DONE)).tolist()
        self.state[gone] = NEW
        self.state[there] = DONE
        if gone:
            self._at = 0
            self._count_anew(gone)
        else:
            self._count(found)
        return not gone

    def receipts(self) -> list[Receipt]:
        return self.book.read(self.done_chunks())

    def parked(self) -> list[Parked]:
        found = []
        for chunk in np.flatnonzero(self.state == PARKED).tolist():
            data = self.store.read(output_layout.parked(chunk))
            if data is not None:
                found.append(parse_parked(data, chunk))
        return found

    def _count_errors(self) -> None:
        told, refused, why = self.client.hmget(
            redis_keys.job(self.job.key), "error_rows", "refused", "refused_why"
        )
        self.error_rows = int(told) if told is not None else self.error_rows
        if int(refused or 0) >= REFUSALS and not (self.state == DONE).any():
            self.fatal = f"no worker can reach the job: {why.decode()}"

    def _announce(self) -> None:
        """Put into Redis what workers and watchers read there; each part is counted once."""
        key = redis_keys.job(self.job.key)
        self.client.hdel(key, "refused", "refused_why")
        reset_counters(self.client, self.job.key, self.controller, self._facts())
        told, done = counted(self.client, self.job.key), set(self.done_chunks())
        gone = []
        for chunk in sorted(told - done):  # committed since the listing, or of an earlier life
            if chunk < len(self.state) and self.store.head(output_layout.part(chunk)) is not None:
                self.state[chunk] = DONE
            else:
                gone.append(chunk)
        if gone:
            self._count_anew(gone)
        else:
            self._count(sorted(done - told))
        announce_job(self.client, self.job.key, self.job.output)

    def _facts(self) -> dict[str, Any]:
        return {"output": self.job.output, "chunks": self.job.chunks, "rows": self.job.rows}

    def _count(self, chunks: Sequence[int]) -> None:
        """Have chunks counted whose parts were found in the store, where their workers did not."""
        if chunks:
            count_in(self.client, self.job.key, self.book.read(chunks))

    def _count_anew(self, gone: Sequence[int]) -> None:
        """The same for all parts there are, since these were counted and are there no more."""
        self.book.forget(gone)
        reset_counters(self.client, self.job.key, self.controller, self._facts(), anew=True)
        self._count(self.done_chunks())

    def done_chunks(self) -> list[int]:
        found: list[int] = np.flatnonzero(self.state == DONE).tolist()
        return found


def _reason(data: bytes) -> str:
    try:
        return str(json.loads(data)["reason"])
    except (ValueError, KeyError, TypeError):
        return "cancelled"
