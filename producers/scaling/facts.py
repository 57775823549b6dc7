"""The facts in Redis that scaling decides from: each job's controller writes, all read.

A job is tracked by one controller, and any controller may be asked how many workers are wanted. So
each writes the demand of its jobs to Redis, and each answers from what is there. The window of a
queue is shared in the same way: each controller knows what the others' jobs could send.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from headrace.assumptions import CHUNK_S
from headrace.coordination.announced_jobs import announced_jobs
from headrace.coordination.drift_verdicts import DriftVerdict, read_drift
from headrace.coordination.ended_jobs import EndedJob, read_ended
from headrace.coordination.excluded_hosts import ExcludedHost, host_of, read_excluded
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.redis_client import RedisClient
from producers.scaling.decision import (
    Demand,
    WorkerCounts,
)
from schemas.names import redis_keys

SILENT_S = 300.0  # chosen: a job whose controller has been silent this long no longer counts


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
    """When tokens were last scored, or the job was taken over."""
    paused: bool
    counts: dict[str, int]
    """Chunks that are new, sent, done, parked."""
    told_s: float
    """When a controller wrote this."""
    oldest_chunk_s: float | None = None
    """Since when the oldest chunk without a part has been in flight."""
    load_s: float | None = None
    """Seconds that a worker took to load the model; None: none has yet."""
    ready: int = 0
    """Chunks that its controller could send now; no more than fit into a window."""
    engine: str = ""
    """Key of the model that a worker must have loaded for it."""

    @property
    def chunk_s(self) -> float:
        """Seconds per chunk of one worker, measured or guessed."""
        return self.demand.work_s / self.chunks if self.chunks else CHUNK_S

    @property
    def demand(self) -> Demand:
        return Demand(
            self.job, self.queue, self.model, self.chunks, self.backlog_tokens, self.tokens_per_s,
            self.priority, self.deadline_s,
        )  # fmt: skip


_JOB_FACTS = TypeAdapter(JobFacts)
_COUNTS = {"new", "sent", "done", "parked"}
_MOST = 1e15
"""Above any count, time and number of tokens: a larger value, or NaN, is invalid."""


@dataclass(frozen=True, slots=True)
class ScalingInputs:
    """Everything a decision needs, at one moment."""

    jobs: tuple[JobFacts, ...]
    workers: tuple[LiveWorker, ...]
    """Live workers, without those of excluded hosts, which do no work."""
    ended: tuple[EndedJob, ...] = ()
    """Jobs that ended in the last hour."""
    excluded: tuple[ExcludedHost, ...] = ()
    drift: tuple[DriftVerdict, ...] = ()
    """The last verdicts of `headrace drift`."""

    def demands(self, queue: str) -> list[Demand]:
        return [j.demand for j in self.jobs if j.queue == queue]

    def fleet(self, queue: str) -> WorkerCounts:
        own = [w for w in self.workers if w.queue == queue]
        busy = sum(w.is_busy for w in own)
        return WorkerCounts(busy, len(own) - busy)

    def load_s(self, queue: str) -> float | None:
        """Seconds to load the slowest model of the queue's jobs; None: not measured."""
        known = [j.load_s for j in self.jobs if j.queue == queue and j.load_s is not None]
        return max(known, default=None)

    @property
    def queues(self) -> list[str]:
        return sorted({j.queue for j in self.jobs} | {w.queue for w in self.workers})


def read_facts(client: RedisClient, now_at: float) -> ScalingInputs:
    """The facts about all jobs and workers in Redis. Raises redis-py's own errors."""
    jobs = read_jobs(client, now_at, SILENT_S)
    excluded = read_excluded(client)
    workers = (w for w in read_workers(client, now_at).workers if host_of(w.name) not in excluded)
    ended = tuple(read_ended(client))
    drift = tuple(read_drift(client))
    return ScalingInputs(
        tuple(jobs.values()), tuple(workers), ended, tuple(excluded.values()), drift
    )


def read_jobs(client: RedisClient, now_at: float, within_s: float) -> dict[str, JobFacts]:
    """The demand of each job written within that time, by run key. Raises redis-py's own errors."""
    names = list(announced_jobs(client))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hget(redis_keys.job(name), "demand")
    told = zip(names, pipe.execute(), strict=True)
    found = {name: _parse(raw) for name, raw in told if raw is not None}
    return {n: f for n, f in found.items() if f is not None and now_at - f.told_s < within_s}


def _parse(raw: bytes) -> JobFacts | None:
    try:
        found = _JOB_FACTS.validate_json(raw)
    except ValidationError:
        return None  # of another version; it is written again within a second
    values = [value for name, value in asdict(found).items() if name != "priority"]
    numbers = [n for n in (*values, *found.counts.values()) if isinstance(n, int | float)]
    are_sane = all(0 <= n < _MOST for n in numbers) and found.ready <= found.chunks
    return found if are_sane and found.counts.keys() >= _COUNTS else None


# -- writing
