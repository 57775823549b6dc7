"""What the scaling decision is made from, in Redis: written by whoever follows a job, read by all.

A job is followed by one controller, and any controller may be asked how many workers are wanted.
So each tells Redis what its jobs still want, and each answers from what Redis was told. The window
of a queue is shared in the same way: each knows what the others' jobs could send.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from producers.control.dispatch_window import LOAD_S, Claim
from producers.control.reconcile import DONE, Following
from producers.scaling.decision import (
    CHUNK_S,
    Demand,
    Fleet,
)
from producers.workers_seen import WorkerSeen, read_workers
from schemas.names import redis_keys
from schemas.records.job import Job
from schemas.records.model_key import (
    engine_name,
    model_name,
    speed_field,
)

TOLD_S = 300.0  # chosen: a job that nobody has followed for this long wants nobody
OTHERS_S = 10.0  # the life of a controller's lock: whoever is silent longer is followed by another
TELL_S = 1.0  # chosen: how often a job's demand is told; nobody asks oftener than every two seconds
BYTES_A_TOKEN = 4.0  # until a chunk was scored; English has 4 to 5 characters a token
HALF_LIFE_S = 300.0  # chosen: how fast a measured speed forgets; ten chunks
MEASURED_S = 10.0  # chosen: worker-seconds before a speed counts as measured


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job as scaling and metrics see it; JSON in the field `demand` of `headrace:job:{id}`."""

    job: str
    queue: str
    model: str
    chunks: int
    backlog_tokens: float
    backlog_rows: int
    tokens_per_s: float | None
    priority: int
    deadline_s: float | None
    submitted_s: float
    progress_s: float
    """When tokens were last seen to be scored, or the job was taken up."""
    paused: bool
    counts: dict[str, int]
    """Chunks that are new, sent, done, parked."""
    told_s: float
    """When a controller said so."""
    oldest_chunk_s: float | None = None
    """Since when the oldest chunk that has no part was handed out."""
    load_s: float | None = None
    """Seconds that a worker took to load the model; None: none has yet."""
    ready: int = 0
    """Chunks that its controller could send now; at most as many as a window could take."""
    engine: str = ""
    """What a worker must have loaded for it."""

    @property
    def chunk_s(self) -> float:
        """Seconds that one worker takes for a chunk, or a guess."""
        return self.demand.work_s / self.chunks if self.chunks else CHUNK_S

    @property
    def demand(self) -> Demand:
        return Demand(
            self.job, self.queue, self.model, self.chunks, self.backlog_tokens, self.tokens_per_s,
            self.priority, self.deadline_s,
        )  # fmt: skip

    def claim(self, key: str) -> Claim:
        """What the job could send, as another controller sees it: numbers stand for its chunks."""
        return Claim(
            key,
            self.priority,
            tuple(range(self.ready)),
            self.counts["sent"],
            self.counts["new"] + self.counts["sent"],
            model=self.engine,
            load_s=LOAD_S if self.load_s is None else self.load_s,
            chunk_s=self.chunk_s,
        )


_JOB_FACTS = TypeAdapter(JobFacts)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a decision needs, at one moment."""

    jobs: tuple[JobFacts, ...]
    workers: tuple[WorkerSeen, ...]

    def demands(self, queue: str) -> list[Demand]:
        return [j.demand for j in self.jobs if j.queue == queue]

    def fleet(self, queue: str) -> Fleet:
        own = [w for w in self.workers if w.queue == queue]
        busy = sum(w.is_busy for w in own)
        return Fleet(busy, len(own) - busy)

    def load_s(self, queue: str) -> float | None:
        """Seconds to load what the queue's jobs want, the slowest of them; None: not measured."""
        known = [j.load_s for j in self.jobs if j.queue == queue and j.load_s is not None]
        return max(known, default=None)

    @property
    def queues(self) -> list[str]:
        return sorted({j.queue for j in self.jobs} | {w.queue for w in self.workers})


def read_facts(client: Any, now_s: float) -> Facts:
    """What Redis was told of all jobs and workers. Raises redis-py's own errors."""
    jobs = read_jobs(client, now_s, TOLD_S)
    return Facts(tuple(jobs.values()), tuple(read_workers(client, now_s)))


def read_jobs(client: Any, now_s: float, within_s: float) -> dict[str, JobFacts]:
    """What was told of each job within that time, by its run key. Raises redis-py's own errors."""
    names = [key.decode() for key in client.hkeys(redis_keys.JOBS)]
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hget(redis_keys.job(name), "demand")
    told = zip(names, pipe.execute(), strict=True)
    found = {name: _parse(raw) for name, raw in told if raw is not None}
    return {n: f for n, f in found.items() if f is not None and now_s - f.told_s < within_s}


def _parse(raw: bytes) -> JobFacts | None:
    try:
        return _JOB_FACTS.validate_json(raw)
    except ValidationError:
        return None  # another version's; it is told again within a second


# -- telling


@dataclass(slots=True)
class Speed:
    """Tokens a second of one worker, forgetting the past at a steady pace."""

    tokens: float = 0.0
    worker_s: float = 0.0

    def add(self, tokens: float, worker_s: float, elapsed_s: float) -> None:
        kept = 0.5 ** (elapsed_s / HALF_LIFE_S)
        self.tokens = self.tokens * kept + tokens
        self.worker_s = self.worker_s * kept + worker_s

    @property
    def tokens_per_s(self) -> float | None:
        if self.worker_s < MEASURED_S or self.tokens <= 0:
            return None
        return self.tokens / self.worker_s


@dataclass(slots=True)
class _Watched:
    """What was seen of a job the last time."""

    at_s: float
    tokens: float
    progress_s: float
    speed: Speed = field(default_factory=Speed)


@dataclass(slots=True)
class Teller:
    """Tells Redis, about once a second, what the followed jobs want. Not for threads."""

    client: Any
    facts: dict[str, JobFacts] = field(default_factory=dict)
    """What was told last, by the job's run key."""
    others: dict[str, JobFacts] = field(default_factory=dict)
    """The same of jobs that other controllers follow, as they told of late."""
    _at_s: float = 0.0
    _workers: tuple[WorkerSeen, ...] = ()
    _workers_s: float = 0.0
    _watched: dict[str, _Watched] = field(default_factory=dict)

    def tell(
        self,
        jobs: Iterable[Following],
        now_s: float | None = None,
        rests: Callable[[str], bool] = lambda key: False,
    ) -> None:
        """Tell of these jobs, and hear of the others'; a job that `rests` sends nothing for now.

        Raises redis-py's own errors.
        """
        now = time.time() if now_s is None else now_s
        followed = list(jobs)
        if now - self._at_s < TELL_S and all(f.job.key in self.facts for f in followed):
            return
        self._at_s = now
        workers = self.workers(now)
        self.facts = {}
        for following in followed:
            busy = sum(w.job == following.job.key and not w.is_loading for w in workers)
            facts = self._facts(following, busy, now)
            if rests(following.job.key):
                facts = replace(facts, ready=0)
            self.client.hset(
                redis_keys.job(following.job.key), "demand", json.dumps(asdict(facts)).encode()
            )
            self.facts[following.job.key] = facts
        self._watched = {f.job.key: self._watched[f.job.key] for f in followed}
        told = read_jobs(self.client, now, OTHERS_S)
        self.others = {key: facts for key, facts in told.items() if key not in self.facts}

    def workers(self, now_s: float) -> tuple[WorkerSeen, ...]:
        """The live workers, read about once a second: each is a hash of its own in Redis."""
        if not 0 <= now_s - self._workers_s < TELL_S:
            self._workers, self._workers_s = tuple(read_workers(self.client, now_s)), now_s
        return self._workers

    def _facts(self, following: Following, busy: int, now: float) -> JobFacts:
        job = following.job
        done, live_rows = self._scored(job)
        a_row = done["tokens"] / done["done_rows"] if done["done_rows"] else 0.0
        scored = done["tokens"] + live_rows * a_row
        rate = self._measure(job, scored, busy, now)
        left = following.state < DONE  # parked ones are settled
        rows_left = int(following.plan.rows[left].sum())
        bytes_done = int(following.plan.bytes[following.state == DONE].sum())
        bytes_left = int(following.plan.bytes[left].sum())
        a_byte = done["tokens"] / bytes_done if bytes_done and done["tokens"] else 1 / BYTES_A_TOKEN
        backlog = max(0.0, bytes_left * a_byte - live_rows * a_row)
        counts = following.counts
        return JobFacts(
            job=job.id,
            queue=job.options.queue,
            model=model_name(job),
            chunks=0 if following.is_stopped else counts["new"] + counts["sent"],
            backlog_tokens=0.0 if following.is_stopped else backlog,
            backlog_rows=max(0, rows_left - live_rows),
            tokens_per_s=rate,
            priority=job.options.priority,
            deadline_s=job.options.deadline_s,
            submitted_s=job.submitted_s,
            progress_s=self._watched[job.key].progress_s,
            paused=following.paused,
            counts=counts,
            told_s=now,
            oldest_chunk_s=following.oldest_sent_s,
            load_s=self._load_s(job),
            ready=len(following.claim().ready),
            engine=engine_name(job),
        )

    def _load_s(self, job: Job) -> float | None:
        told = self.client.hget(redis_keys.LOADS, speed_field(job))
        return None if told is None else float(told)

    def _scored(self, job: Job) -> tuple[dict[str, int], int]:
        """Counters of committed chunks, and rows scored in chunks that are not committed yet."""
        names = ("tokens", "done_rows")
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(redis_keys.job(job.key), *names)
        pipe.hvals(redis_keys.live(job.key))
        told, live = pipe.execute()
        done = {n: int(v or 0) for n, v in zip(names, told, strict=True)}
        return done, sum(_rows(v) for v in live)

    def _measure(self, job: Job, scored: float, busy: int, now: float) -> float | None:
        """Tokens a second of one worker on this job: measured, else as an earlier job left it."""
        watched = self._watched.get(job.key)
        if watched is None:
            self._watched[job.key] = watched = _Watched(now, scored, now)
        gained, elapsed_s = max(0.0, scored - watched.tokens), now - watched.at_s
        if gained > 0:
            watched.progress_s = now
        watched.speed.add(gained, busy * elapsed_s, elapsed_s)
        watched.at_s, watched.tokens = now, max(scored, watched.tokens)
        rate, known = watched.speed.tokens_per_s, speed_field(job)
        if rate is None:
            stored = self.client.hget(redis_keys.SPEEDS, known)
            return float(stored) if stored is not None else None
        self.client.hset(redis_keys.SPEEDS, known, round(rate, 3))
        self.client.expire(redis_keys.SPEEDS, redis_keys.SPEEDS_LIFE_S)
        return rate


def _rows(live: bytes) -> int:
    try:
        return int(json.loads(live)["rows"])
    except (ValueError, KeyError, TypeError):
        return 0
