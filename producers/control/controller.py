"""The controller: publishing and recovery in one loop, for all jobs it can lock.

One small process without torch. Several of them are safe: each job is reconciled by the controller
that holds its lock, and another takes over when the holder is gone for ten seconds. They share the
window of a queue: each leaves room for the jobs of the others, by priority and fair share.

    tick: locks → TrackedJob.tick (what is done, what was lost) → JobEnding → Publisher
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis

from headrace.output.plan_file import PlanTable
from headrace.process.logs import get_logger
from headrace.process.numbers import span
from headrace.queue.open import open_queue
from headrace.queue.queue import MessageQueue, QueueView
from headrace.redis_client import RedisClient
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.job_trace import JobTrace
from producers.control.demand import DemandReporter
from producers.control.finish import JobEnding
from producers.control.hosts import HostWatch
from producers.control.job_locks import JobLocks
from producers.control.notify import run_finish_hook
from producers.control.publish import Publisher
from producers.control.store_patience import StorePatience
from producers.records.follower import Followers
from producers.tracking.chunk_states import DONE
from producers.tracking.tracked_job import TrackedJob
from schemas.errors import BrokerError, HeadraceError, error_type_of
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import Manifest

log = get_logger(__name__)

REST_S = 5.0  # chosen: pause before a job is tried again whose store or records fail


@dataclass(slots=True)
class Controller:
    """Reconciles jobs; call `tick` about once per second, or `run`. `close` releases the locks."""

    client: RedisClient
    sender: Any
    name: str = field(default_factory=lambda: f"controller-{uuid.uuid4().hex[:8]}")
    on_end: Callable[[Job, Manifest], None] = lambda job, manifest: None
    least_workers: int = 1
    takes_all_jobs: bool = False
    """Whether it reconciles every job that is submitted, and says so in Redis; else its own."""
    on_finish: str | None = None
    """A command or URL of this process's own that is run or called at each end."""
    emitter: Emitter | None = None
    """Exports the job's own spans: publish, finish, and the job itself when it ends here."""
    give_up_after_s: float | None = None
    """How long a job's store may fail before the job ends as failed; None: its follower decides."""
    keep_traces: bool = True
    """Whether spans are written under `_traces/` too."""
    open_store: Callable[[str], Store] | None = None
    """Opens the store of an input file, to check the file before reporting it as changed."""
    tracked: dict[str, TrackedJob] = field(default_factory=dict)
    """The jobs whose lock this controller holds, by job key."""
    ended: dict[str, Manifest] = field(default_factory=dict)
    store_errors: dict[str, HeadraceError] = field(default_factory=dict)
    """By job key: why the last turn of a job failed, where its store did."""
    _patience: dict[str, StorePatience] = field(default_factory=dict)
    queue: MessageQueue = field(init=False)
    """The queues of messages that wait for a worker."""
    _known: dict[str, tuple[Job, Store]] = field(default_factory=dict)
    _traces: dict[str, JobTrace] = field(default_factory=dict)
    _away_since_monotonic: float | None = None
    _rest_until_monotonic: dict[str, float] = field(default_factory=dict)
    locks: JobLocks = field(init=False)
    _followers: Followers = field(init=False)
    _reporter: DemandReporter = field(init=False)
    _publisher: Publisher = field(init=False)
    _ending: JobEnding = field(init=False)
    _hosts: HostWatch = field(init=False)

    def __post_init__(self) -> None:
        self.queue = open_queue(self.client, self.sender)
        self.locks = JobLocks(self.client, self.name)
        self._followers = Followers(self.name, self.client)
        self._reporter = DemandReporter(self.client)
        self._hosts = HostWatch(self.client, self._reporter)
        self._publisher = Publisher(self.queue, self._reporter, self.least_workers)
        self._ending = JobEnding(self.client, self.queue, self.keep_traces)

    def add(self, job: Job, store: Store) -> None:
        """Track this job from the next tick until it ends; also a job that had ended."""
        if job.key not in self._known and store.head(output_layout.MANIFEST) is None:
            self.ended.pop(job.key, None)
            self._known[job.key] = (job, store)

    def knows(self, key: str) -> bool:
        """Whether the job of this key is tracked, or has ended here."""
        return key in self._known or key in self.ended

    def tick(self) -> None:
        """One round over all jobs. Waits for an unreachable Redis or store instead of raising."""
        try:
            self._tick()
            if self._away_since_monotonic is not None:
                away_s = time.monotonic() - self._away_since_monotonic
                log.info("broker.recovered", seconds=round(away_s, 1))
                self._away_since_monotonic = None
        except (redis.RedisError, BrokerError, OSError) as error:
            if self._away_since_monotonic is None:
                self._away_since_monotonic = time.monotonic()
                log.warning("broker.unreachable", error_type=type(error).__name__)
        except HeadraceError as error:
            log.error("store.retried", error_type=error_type_of(error), error_message=str(error))

    def run(self, stop: threading.Event, tick_s: float = 1.0) -> None:
        """Tick until the event is set."""
        while not stop.is_set():
            self.tick()
            stop.wait(tick_s)

    def close(self) -> None:
        """Release the locks, and drop the spans of jobs that have not ended."""
        for key in list(self._traces):
            self._end_trace(key)
        for key, tracked in self.tracked.items():
            self._followers.leave(key, tracked.store)
        self.locks.close()

    def workers(self, queue: str) -> int:
        """Number of live workers of the queue, at least `least_workers`."""
        return self._publisher.workers(queue)

    # -- one round

    def _tick(self) -> None:
        if self.takes_all_jobs:
            life_s = redis_keys.CONTROLLER_LIFE_S
            self.client.set(redis_keys.CONTROLLER, self.name, ex=life_s)
        for job, store in list(self._known.values()):
            if job.key in self.tracked or self._rests(job.key) or not self.locks.take(job.key):
                continue
            if not self._safely(job, partial(self._begin, job, store)):
                self.locks.forget(job.key)  # another controller may succeed
        self._reporter.report(self.tracked.values(), rests=self._rests)
        for queue in sorted({t.job.options.queue for t in self.tracked.values()}):
            jobs = [t for t in self.tracked.values() if t.job.options.queue == queue]
            view = self.queue.read(queue)
            left = self._reconcile(view, jobs)
            self._publisher.publish(queue, view, left, self._traces)

    def _begin(self, job: Job, store: Store) -> None:
        if not self._followers.may_follow(job.key, store):
            self.locks.give_back(job.key)
            self._rest_until_monotonic[job.key] = time.monotonic() + REST_S
            return
        self._followers.renew(job.key, store)
        telemetry = self.emitter or Telemetry()
        plan = PlanTable.load(store)
        tracked = TrackedJob(
            job,
            store,
            plan,
            self.client,
            self.name,
            telemetry,
            self.keep_traces,
            open_store=self.open_store,
        )
        tracked.load()
        self.tracked[job.key] = tracked
        self._traces[job.key] = JobTrace.of(job, telemetry)

    def _reconcile(self, view: QueueView, jobs: Iterable[TrackedJob]) -> list[TrackedJob]:
        """Update these jobs; returns those that may send something now."""
        left = []
        for tracked in jobs:
            key = tracked.job.key
            if not self.locks.holds(key):
                self._lose(key)
            elif not self._rests(key) and self._safely(
                tracked.job, partial(self._look_after, tracked, view)
            ):
                left.append(tracked)
        return [tracked for tracked in left if tracked.job.key in self.tracked]

    def _look_after(self, tracked: TrackedJob, view: QueueView) -> None:
        job = tracked.job
        self._followers.renew(job.key, tracked.store)
        if not tracked.knows_redis():
            log.warning("job.resumed", job=job.id, reason="Redis lost what it knew")
            tracked.load()
        hosts = self._hosts.of_queue(job.options.queue)
        tracked.tick(view, hosts)
        self._hosts.judge(tracked, hosts)
        self._give_up(tracked)
        manifest = self._ending.end_if_over(tracked, self._traces[job.key])
        if manifest is not None:
            self._ended(job, manifest)

    def _give_up(self, tracked: TrackedJob) -> None:
        """End a job whose workers have waited for a store for too long."""
        if self.give_up_after_s is None:
            return
        trouble, done = tracked.store_trouble, len(tracked.chunks.chunks(DONE))
        patience = self._patience.setdefault(tracked.job.key, StorePatience(self.give_up_after_s))
        if patience.is_over(fails=trouble is not None, rows=done, now=time.monotonic()):
            limit = span(self.give_up_after_s)
            assert trouble is not None
            tracked.fatal = f"waited {limit} for the store (--give-up-after): {trouble.why}"

    def _ended(self, job: Job, manifest: Manifest) -> None:
        self._followers.leave(job.key, self.tracked[job.key].store)
        del self.tracked[job.key], self._traces[job.key]
        self.locks.forget(job.key)
        self._known.pop(job.key, None)
        self._patience.pop(job.key, None)
        self.ended[job.key] = manifest
        self.on_end(job, manifest)
        run_finish_hook(job, manifest, self.on_finish)

    def _lose(self, key: str) -> None:
        """Another controller has the job's lock."""
        del self.tracked[key]
        self.locks.forget(key)
        self._end_trace(key)

    def _end_trace(self, key: str) -> None:
        """Export and save the spans made here of a job that another controller will end."""
        trace = self._traces.pop(key, None)
        if trace is None:
            return
        trace.end()
        if self.keep_traces and key in self._known:
            trace.save(self._known[key][1])

    # -- failures

    def _safely(self, job: Job, act: Callable[[], None]) -> bool:
        """Whether the call succeeded. An error of one job or its store must not stop the others."""
        try:
            act()
        except (redis.RedisError, BrokerError):
            raise
        except Exception as error:  # an unreadable record raises errors of any class
            ours = isinstance(error, HeadraceError)
            if isinstance(error, HeadraceError) and error.may_pass:
                self.store_errors[job.key] = error
            self._rest_until_monotonic[job.key] = time.monotonic() + REST_S
            log.error(
                "store.retried",
                job=job.id,
                error_type=error_type_of(error),
                error_message=str(error) if ours else type(error).__name__,
                error=None if ours else error,
            )
            return False
        self.store_errors.pop(job.key, None)
        return True

    def _rests(self, key: str) -> bool:
        return time.monotonic() < self._rest_until_monotonic.get(key, 0.0)
