"""Writes the demand of this controller's jobs for workers to Redis, for scaling."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace

from headrace.assumptions import BYTES_PER_TOKEN, MODEL_LOAD_S
from headrace.coordination.job_counters import rows_in_progress
from headrace.coordination.live_workers import LiveWorkers, read_workers
from headrace.coordination.redis_clock import RedisClock
from headrace.coordination.redis_values import as_count, as_number
from headrace.process.logs import get_logger
from headrace.redis_client import RedisClient
from producers.capacity.measured_speed import Speed
from producers.control.dispatch_window import JobDemand
from producers.scaling.facts import JobFacts, read_jobs
from producers.tracking.chunk_states import DONE
from producers.tracking.tracked_job import TrackedJob
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.model_key import (
    engine_key,
    model_name,
    speed_key,
)

log = get_logger(__name__)

OTHERS_S = 10.0  # life of a controller's lock: after a longer silence another controller takes over


REPORT_S = 1.0  # chosen: how often demand is written to Redis; hosts poll every 2 s


@dataclass(slots=True)
class _Watched:
    """What the last round saw of a job."""

    at: float
    """Seconds since the epoch, as `progress_at`."""
    tokens: float
    progress_at: float
    speed: Speed = field(default_factory=Speed)


@dataclass(slots=True)
class DemandReporter:
    """Writes the demand of the tracked jobs to Redis about once per second. Not thread-safe."""

    client: RedisClient
    facts: dict[str, JobFacts] = field(default_factory=dict)
    """What was written last, by the job's run key."""
    others: dict[str, JobFacts] = field(default_factory=dict)
    """The same for jobs that other controllers track, as they wrote it recently."""
    clock: RedisClock = field(init=False)
    _reported_at: float = 0.0
    _workers: LiveWorkers = field(default_factory=LiveWorkers)
    _workers_at: float = 0.0
    _watched: dict[str, _Watched] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = RedisClock(self.client)

    def report(
        self,
        jobs: Iterable[TrackedJob],
        now_at: float | None = None,
        rests: Callable[[str], bool] = lambda key: False,
    ) -> None:
        """Write the demand of these jobs and read the others'; a job that `rests` sends nothing now.

        Raises redis-py's own errors.
        """
        now = time.time() if now_at is None else now_at
        redis_at = self.clock.now() if now_at is None else now_at
        followed = list(jobs)
        if now - self._reported_at < REPORT_S and all(f.job.key in self.facts for f in followed):
            return
        self._reported_at = now
        workers = self.workers(redis_at)
        self.facts = {}
        for tracked in followed:
            busy = sum(w.job == tracked.job.key and not w.is_loading for w in workers)
            facts = replace(self._facts(tracked, busy, now), told_s=redis_at)
            if rests(tracked.job.key):
                facts = replace(facts, ready=0)
            self.client.hset(
                redis_keys.job(tracked.job.key), "demand", json.dumps(asdict(facts)).encode()
            )
            self.facts[tracked.job.key] = facts
        self._watched = {f.job.key: self._watched[f.job.key] for f in followed}
        told = read_jobs(self.client, redis_at, OTHERS_S)
        self.others = {key: facts for key, facts in told.items() if key not in self.facts}

    def workers(self, now_at: float | None = None) -> LiveWorkers:
        """The live workers, read about once per second: each is a hash of its own in Redis.

        `now_at` is by Redis's clock; None: now.
        """
        now_at = self.clock.now() if now_at is None else now_at
        if not 0 <= now_at - self._workers_at < REPORT_S:
            before = self._workers.invalid
            self._workers, self._workers_at = read_workers(self.client, now_at), now_at
            if self._workers.invalid > before:
                log.warning("worker.record_invalid", count=self._workers.invalid)
        return self._workers

    def _facts(self, tracked: TrackedJob, busy: int, now: float) -> JobFacts:
        job = tracked.job
        done, live_rows = self._scored(job)
        a_row = done["tokens"] / done["done_rows"] if done["done_rows"] else 0.0
        scored = done["tokens"] + live_rows * a_row
        rate = self._measure(job, scored, busy, now)
        state = tracked.chunks.state
        left = state < DONE  # parked chunks are settled
        rows_left = int(tracked.plan.rows[left].sum())
        bytes_done = int(tracked.plan.bytes[state == DONE].sum())
        bytes_left = int(tracked.plan.bytes[left].sum())
        a_byte = (
            done["tokens"] / bytes_done if bytes_done and done["tokens"] else 1 / BYTES_PER_TOKEN
        )
        backlog = max(0.0, bytes_left * a_byte - live_rows * a_row)
        counts = tracked.chunks.counts
        return JobFacts(
            job=job.id,
            queue=job.options.queue,
            model=model_name(job),
            chunks=0 if tracked.is_stopped else counts["new"] + counts["sent"],
            backlog_tokens=0.0 if tracked.is_stopped else backlog,
            backlog_rows=max(0, rows_left - live_rows),
            tokens_per_s=rate,
            priority=job.options.priority,
            deadline_s=job.options.deadline_s,
            submitted_s=job.submitted_s,
            progress_s=self._watched[job.key].progress_at,
            paused=tracked.flags.paused,
            counts=counts,
            told_s=now,
            oldest_chunk_s=tracked.chunks.oldest_sent_at(),
            load_s=self._load_s(job),
            ready=len(tracked.ready()),
            engine=engine_key(job),
        )

    def _load_s(self, job: Job) -> float | None:
        told = self.client.hget(redis_keys.MODEL_LOAD_SECONDS, speed_key(job))
        return as_number(told)

    def _scored(self, job: Job) -> tuple[dict[str, int], int]:
        """Counters of committed chunks, and rows scored in chunks that are not committed yet."""
        names = ("tokens", "done_rows")
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(redis_keys.job(job.key), *names)
        pipe.hvals(redis_keys.live(job.key))
        told, live = pipe.execute()
        done = {n: as_count(v) for n, v in zip(names, told, strict=True)}
        return done, rows_in_progress(live)

    def _measure(self, job: Job, scored: float, busy: int, now: float) -> float | None:
        """Tokens per second of one worker on this job: measured, else as an earlier job left it."""
        watched = self._watched.get(job.key)
        if watched is None:
            self._watched[job.key] = watched = _Watched(now, scored, now)
        gained, elapsed_s = max(0.0, scored - watched.tokens), now - watched.at
        if gained > 0:
            watched.progress_at = now
        watched.speed.add(gained, busy * elapsed_s, elapsed_s)
        watched.at, watched.tokens = now, max(scored, watched.tokens)
        rate, known = watched.speed.tokens_per_s, speed_key(job)
        if rate is None:
            stored = as_number(self.client.hget(redis_keys.SPEEDS, known))
            return stored if stored is not None and stored > 0 else None
        self.client.hset(redis_keys.SPEEDS, known, round(rate, 3))
        self.client.expire(redis_keys.SPEEDS, redis_keys.SPEEDS_LIFE_S)
        return rate


def demand_of(facts: JobFacts, key: str) -> JobDemand:
    """What another controller's job could send, with placeholder numbers for its chunks."""
    return JobDemand(
        key,
        facts.priority,
        tuple(range(facts.ready)),
        facts.counts["sent"],
        facts.counts["new"] + facts.counts["sent"],
        model=facts.engine,
        load_s=MODEL_LOAD_S if facts.load_s is None else facts.load_s,
        chunk_s=facts.chunk_s,
    )
