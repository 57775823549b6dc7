"""The controller: publishing and recovery in one loop, for all jobs it can lock.

One small process without torch. Two of them are safe: each job is reconciled by whoever holds its
lock, and another takes over when the holder is gone for ten seconds. The window of a queue is one
for all: each leaves room for what the others' jobs, by priority and fair share, are to send.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import redis

from headrace.coordination.leases import LeaseBook
from headrace.output.plan_file import PlanTable
from headrace.process.logs import get_logger
from headrace.queue.celery_config import send
from headrace.queue.rabbitmq_queue import LedgerQueue, queue_of
from headrace.queue.redis_queue import (
    ListedQueue,
    QueueView,
    keep_alive,
)
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.job_trace import JobTrace
from producers.control.demand import DemandReporter, claim_of
from producers.control.dispatch_window import (
    LOAD_S,
    JobDemand,
    ModelTurn,
    preempted,
    select_runs,
    window_size,
    yielding,
)
from producers.control.finish import finish
from producers.control.notify import run_finish_hook
from producers.control.reconcile import TrackedJob
from producers.records.manifest import is_hopeless
from schemas.errors import BrokerError, HeadraceError, error_type_of
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import JobState, Manifest
from schemas.records.message import ScoreChunk
from schemas.records.model_key import engine_key

log = get_logger(__name__)

LOCK_S = 10.0  # another controller takes over within this, plus a tick
REST_S = 5.0  # chosen: how long a job is left alone whose store or records fail

# Compare and extend, compare and delete: only the holder's own lock.
_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_UNLOCK = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)


@dataclass(slots=True)
class Controller:
    """Reconciles jobs; `tick` once a second or so, or `run`. `close` gives the locks back."""

    client: Any
    sender: Any
    name: str = field(default_factory=lambda: f"controller-{uuid.uuid4().hex[:8]}")
    on_end: Callable[[Job, Manifest], None] = lambda job, manifest: None
    least_workers: int = 1
    on_finish: str | None = None
    """A command or URL of this process's own that is told of each end."""
    emitter: Emitter | None = None
    """Where the job's own spans go: publish, finish, and the job itself when it ends here."""
    keep_traces: bool = True
    """Whether spans stand under `_traces/` too."""
    following: dict[str, TrackedJob] = field(default_factory=dict)
    ended: dict[str, Manifest] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None
    _away_s: float | None = None
    _known: dict[str, tuple[Job, Store]] = field(default_factory=dict)
    _traces: dict[str, JobTrace] = field(default_factory=dict)
    _turns: dict[str, ModelTurn | None] = field(default_factory=dict)
    """By queue: whose model is being sent."""
    queue: ListedQueue | LedgerQueue = field(init=False)
    """What waits to be taken by a worker."""
    _rest_until_s: dict[str, float] = field(default_factory=dict)
    _teller: DemandReporter = field(init=False)

    def __post_init__(self) -> None:
        self._teller = DemandReporter(self.client)
        self.queue = queue_of(self.client, self.sender)

    def add(self, job: Job, store: Store) -> None:
        """Look after this job from the next tick on, until it ends; once it has, for good or again."""
        if job.key not in self._known and store.head(output_layout.MANIFEST) is None:
            self.ended.pop(job.key, None)
            self._known[job.key] = (job, store)

    def knows(self, key: str) -> bool:
        """Whether the job of this key is looked after, or has ended here."""
        return key in self._known or key in self.ended

    def tick(self) -> None:
        """One round over all jobs. Redis or a store that is away is waited for, not raised."""
        try:
            self._tick()
            if self._away_s is not None:
                log.info("broker.recovered", seconds=round(time.monotonic() - self._away_s, 1))
                self._away_s = None
        except (redis.RedisError, BrokerError, OSError) as error:
            if self._away_s is None:
                self._away_s = time.monotonic()
                log.warning("broker.unreachable", error_type=type(error).__name__)
        except HeadraceError as error:
            log.error("store.retried", error_type=error_type_of(error), error_message=str(error))

    def run(self, stop: threading.Event, tick_s: float = 1.0) -> None:
        """Tick until told to stop."""
        while not stop.is_set():
            self.tick()
            stop.wait(tick_s)

    def close(self) -> None:
        """Give the locks back, and let go of the spans of jobs that have not ended."""
        for key in list(self._traces):
            self._let_go(key)
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        for job in list(self.following):
            try:
                self.client.eval(_UNLOCK, 1, redis_keys.lock(job), self.name)
            except redis.RedisError:
                break

    # -- one round

    def _tick(self) -> None:
        self.client.set(redis_keys.CONTROLLER, self.name, ex=redis_keys.CONTROLLER_LIFE_S)
        for job, store in list(self._known.values()):
            if job.key not in self.following and not self._rests(job.key) and self._lock(job.key):
                self._safely(job, partial(self._begin, job, store))
        self._teller.tell(self.following.values(), rests=self._rests)
        for queue in sorted({f.job.options.queue for f in self.following.values()}):
            self._reconcile(
                queue, [f for f in self.following.values() if f.job.options.queue == queue]
            )

    def _begin(self, job: Job, store: Store) -> None:
        telemetry = self.emitter or Telemetry()
        plan = PlanTable.load(store)
        following = TrackedJob(
            job, store, plan, self.client, self.name, telemetry, self.keep_traces
        )
        following.load()
        self.following[job.key] = following
        self._traces[job.key] = JobTrace.of(job, telemetry)

    def _reconcile(self, queue: str, jobs: Iterable[TrackedJob]) -> None:
        view = self.queue.read(queue)
        left: list[TrackedJob] = []
        for following in list(jobs):
            if not self._holds(following.job.key):
                del self.following[following.job.key]
                self._let_go(following.job.key)
            elif not self._rests(following.job.key) and self._safely(
                following.job, partial(self._look_after, following, view)
            ):
                left.append(following)
        left = [f for f in left if f.job.key in self.following]
        workers = self.workers(queue)
        others = self._others(queue)
        free = window_size(workers) - view.messages + self._make_room(queue, left, others)
        own = [self._claim(f) for f in left]
        waiting = yielding(own, others)
        claims = [replace(c, ready=()) if c.job in waiting else c for c in own] + others
        runs, turn = select_runs(claims, max(0, free), workers, self._turns.get(queue))
        self._turns[queue] = turn
        runs = [r for r in runs if r.job in self.following]  # the others' are their controllers'
        for run in runs:
            following = self.following[run.job]
            job = following.job
            message = ScoreChunk(
                job=job.id, output=job.output, chunks=run.chunks, traceparent=_trace(job)
            )
            with self._traces[job.key]("publish", messages=1, chunks=len(run.chunks)):
                send(self.sender, message, queue)
            following.sent(run.chunks)
        for key, published in Counter(run.job for run in runs).items():
            chunks = sum(len(run.chunks) for run in runs if run.job == key)
            job = self.following[key].job
            log.info("chunk.published", job=job.id, chunks=chunks, published=published, queue=queue)
        keep_alive(self.client, queue)

    def _look_after(self, following: TrackedJob, view: QueueView) -> None:
        if not following.knows_redis():
            log.warning("job.resumed", job=following.job.id, reason="Redis lost what it knew")
            following.load()
        following.tick(view)
        self._end_if_over(following)

    def _safely(self, job: Job, act: Callable[[], None]) -> bool:
        """Whether it was done. What is wrong with one job, or its store, must not hold the others."""
        try:
            act()
        except (redis.RedisError, BrokerError):
            raise
        except Exception as error:  # a record that cannot be read is of no known class
            ours = isinstance(error, HeadraceError)
            self._rest_until_s[job.key] = time.monotonic() + REST_S
            log.error(
                "store.retried",
                job=job.id,
                error_type=error_type_of(error),
                error_message=str(error) if ours else type(error).__name__,
                error=None if ours else error,
            )
            return False
        return True

    def _rests(self, key: str) -> bool:
        return time.monotonic() < self._rest_until_s.get(key, 0.0)

    def _others(self, queue: str) -> list[JobDemand]:
        """What jobs of the queue could send that other controllers follow: the window is shared."""
        told = self._teller.others.items()
        return [claim_of(f, k) for k, f in told if f.queue == queue and k not in self.following]

    def _make_room(
        self, queue: str, jobs: Sequence[TrackedJob], others: Sequence[JobDemand]
    ) -> int:
        """Take back what waits in front of a more urgent job; returns how many messages."""
        passed = preempted([*(f.claim() for f in jobs), *others])
        passed &= frozenset(f.job.key for f in jobs)  # each controller takes back its own
        if not passed:
            return 0
        found = self.queue.withdraw_messages(queue, passed)
        for message in found:
            self.following[message.key].taken_back(message.chunks)
        return len(found)

    def _claim(self, following: TrackedJob) -> JobDemand:
        """What the job could send, with what its model was measured to cost."""
        claim = replace(following.claim(), model=engine_key(following.job))
        facts = self._teller.facts.get(following.job.key)
        if facts is None:
            return claim
        load_s = LOAD_S if facts.load_s is None else facts.load_s
        return replace(claim, load_s=load_s, chunk_s=facts.chunk_s)

    def workers(self, queue: str) -> int:
        """Workers of the queue that showed a sign of life lately, and as many as we were told of."""
        live = sum(w.queue == queue for w in self._teller.workers(time.time()))
        return max(self.least_workers, live)

    # -- ends

    def _end_if_over(self, following: TrackedJob) -> None:
        job = following.job
        if (
            following.cancelled is None
            and following.fatal is None
            and is_hopeless(job, following.error_rows)
        ):
            following.fatal = f"more than {job.options.error_threshold:.2%} of the rows are errors"
        if following.cancelled is not None or following.fatal is not None:
            self._stop(following)
        elif following.is_settled and following.recount():
            self._end(following, None)

    def _stop(self, following: TrackedJob) -> None:
        """Let what is on a device end or be given back, then write how far it came."""
        job = following.job
        self.queue.purge(job.options.queue, job.key)
        if following.fatal is not None:
            self.client.hset(redis_keys.job(job.key), "cancelled", "1")
        if LeaseBook(self.client, job.key, 1.0).marks():
            return
        following.recount()
        state: JobState = "failed" if following.fatal is not None else "cancelled"
        self._end(following, (state, following.fatal or following.cancelled or ""))

    def _end(self, following: TrackedJob, stopped: tuple[JobState, str] | None) -> None:
        job = following.job
        trace = self._traces[job.key]
        with trace("finish"):
            manifest = finish(following, stopped)
        self.queue.purge(job.options.queue, job.key)
        totals = manifest.totals
        trace.end(
            manifest.state,
            rows=totals.rows,
            ok_rows=totals.ok,
            error_rows=totals.errors,
            parked=totals.parked,
        )
        if self.keep_traces:
            trace.save(following.store)
        del self.following[job.key], self._traces[job.key]
        self._known.pop(job.key, None)
        self.ended[job.key] = manifest
        self.on_end(job, manifest)
        run_finish_hook(job, manifest, self.on_finish)

    def _let_go(self, key: str) -> None:
        """Send and keep what was done here for a job that another will end."""
        trace = self._traces.pop(key, None)
        if trace is None:
            return
        trace.end()
        if self.keep_traces and key in self._known:
            trace.save(self._known[key][1])

    # -- locks

    def _lock(self, job: str) -> bool:
        got = self.client.set(redis_keys.lock(job), self.name, nx=True, px=int(LOCK_S * 1000))
        if got and self._keeper is None:
            self._keeper = threading.Thread(
                target=self._keep_locks, name="headrace-locks", daemon=True
            )
            self._keeper.start()
        return bool(got) or self.client.get(redis_keys.lock(job)) == self.name.encode()

    def _holds(self, job: str) -> bool:
        """Whether the lock is ours; one that vanished with Redis's memory is taken again."""
        holder = self.client.get(redis_keys.lock(job))
        if holder is None:
            return self._lock(job)
        return bool(holder.decode() == self.name)

    def _keep_locks(self) -> None:
        while not self._stopping.wait(LOCK_S / 4):
            for job in list(self.following):
                try:
                    self.client.eval(
                        _EXTEND, 1, redis_keys.lock(job), self.name, int(LOCK_S * 1000)
                    )
                except redis.RedisError:
                    break


def _trace(job: Job) -> str | None:
    return f"00-{job.trace_id}-{job.span_id}-01" if job.trace_id and job.span_id else None
