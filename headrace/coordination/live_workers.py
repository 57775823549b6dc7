"""The live workers: each keeps a hash in Redis, which only this module reads and writes.

headrace:workers        worker → last heartbeat
headrace:worker:{name}  constant fields (queue, device, dtypes, host, pid), `seen_s`, `hand`
                        (job and chunks that it works on), `model`, `progress_s`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from headrace.coordination.redis_clock import redis_now
from headrace.coordination.redis_values import as_record
from headrace.redis_client import RedisClient, as_bytes
from schemas.names import redis_keys

PRESENCE_S = 5.0  # chosen: a third of what counts as gone
SEEN_S = 15.0  # three heartbeats of an idle worker; after that a worker counts as gone


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """One worker; times in seconds since the epoch."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    seen_s: float
    dtypes: tuple[str, ...]
    """Precisions that its device supports."""
    job: str
    """Run key of the job whose chunks it holds; empty: it waits for work."""
    chunks: tuple[int, ...]
    model: str = ""
    """The loaded model; empty: none yet."""
    is_loading: bool = False
    """True if it has work whose model is not on its device yet."""
    progress_s: float | None = None
    """When it last sent a batch to its device; None: not yet."""

    @property
    def is_busy(self) -> bool:
        return bool(self.job)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LiveWorkers:
    """The workers seen recently, by name; iterates over them."""

    workers: tuple[LiveWorker, ...] = ()
    invalid: int = 0
    """Number of invalid records, which are left out."""

    def __iter__(self) -> Iterator[LiveWorker]:
        return iter(self.workers)

    def __len__(self) -> int:
        return len(self.workers)


@dataclass(frozen=True, slots=True)
class WorkInHand:
    """The work in a worker's record."""

    job: str = ""
    """Run key; empty: nothing."""
    attempts: Mapping[int, str] | None = None
    """Attempt by chunk."""

    def dumps(self) -> str:
        """The text written to Redis; empty for no work."""
        return json.dumps({"job": self.job, "chunks": self.attempts}) if self.attempts else ""


def parse_work(text: str) -> WorkInHand:
    """The work in a record. Raises ValueError: it is not a valid record."""
    if not text:
        return WorkInHand()
    found = as_record(text)
    job, chunks = found.get("job"), found.get("chunks")
    if not isinstance(job, str) or not isinstance(chunks, dict):
        raise ValueError("not a worker's record of its chunks")
    attempts = {_whole(chunk): str(attempt) for chunk, attempt in chunks.items()}
    return WorkInHand(job, dict(sorted(attempts.items())))


def read_workers(client: RedisClient, now_at: float, within_s: float = SEEN_S) -> LiveWorkers:
    """Workers seen within that time. Raises redis-py's own errors."""
    found_names = client.zrangebyscore(redis_keys.WORKERS, now_at - within_s, "+inf")
    names = sorted(map(as_bytes, found_names))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(redis_keys.worker("").encode() + name)
    found: list[LiveWorker] = []
    invalid = 0
    for name, raw in zip(names, _answers(pipe), strict=True):
        if raw == {}:
            continue  # expired in between
        worker = parse_worker(name, raw)
        if worker is None:
            invalid += 1
        else:
            found.append(worker)
    return LiveWorkers(tuple(found), invalid)


def parse_worker(name: bytes, raw: object) -> LiveWorker | None:
    """The worker in a hash in Redis; None if it is not a worker's."""
    if not isinstance(raw, dict):
        return None  # redis-py's error: the key is of another type
    try:
        fields = {key.decode(): value.decode() for key, value in raw.items()}
        work = parse_work(fields.get("hand", ""))
        progress = fields.get("progress_s")
        return LiveWorker(
            name=name.decode(),
            queue=fields.get("queue", ""),
            device=fields.get("device", ""),
            host=fields.get("host", ""),
            pid=_whole(fields.get("pid") or "0"),
            seen_s=_moment(fields.get("seen_s") or "0"),
            dtypes=tuple(d for d in fields.get("dtypes", "").split(",") if d),
            job=work.job,
            chunks=tuple(work.attempts or ()),
            model=fields.get("model", ""),
            # a worker of another version does not report its model
            is_loading=bool(work.job) and fields.get("model") == "",
            progress_s=None if progress is None else _moment(progress),
        )
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class WorkerSign:
    """The last heartbeat of one worker, as its own host reads it each second."""

    seen_s: float
    work: WorkInHand
    model: str


def read_signs(client: RedisClient, names: Sequence[str]) -> dict[str, WorkerSign]:
    """The last heartbeat of each of these workers that has one. Raises redis-py's own errors."""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(redis_keys.worker(name))
    found = {}
    for name, raw in zip(names, _answers(pipe), strict=True):
        worker = parse_worker(name.encode(), raw) if raw else None
        if worker is not None:
            work = parse_work(raw.get(b"hand", b"").decode())
            found[name] = WorkerSign(worker.seen_s, work, worker.model)
    return found


def add_heartbeat(pipe: Any, worker: str, fields: Mapping[str, str | float], now_at: float) -> None:
    """Add to a pipeline what says that the worker lives, with these fields of its hash.

    `now_at` is by Redis's clock (`redis_clock`), as are all times here.
    """
    pipe.hset(redis_keys.worker(worker), mapping={**fields, "seen_s": now_at})
    pipe.expire(redis_keys.worker(worker), redis_keys.WORKER_LIFE_S)
    pipe.zadd(redis_keys.WORKERS, {worker: now_at})
    pipe.expire(redis_keys.WORKERS, redis_keys.WORKER_LIFE_S)
    pipe.zremrangebyscore(redis_keys.WORKERS, "-inf", now_at - redis_keys.WORKER_LIFE_S)


def heartbeat(
    client: RedisClient, worker: str, facts: Mapping[str, str], now_at: float | None = None
) -> None:
    """Say that the worker lives; while Redis is unreachable the next one says it.

    `now_at` is the moment by Redis's clock; None: it is asked.
    """
    pipe = client.pipeline(transaction=False)
    try:
        add_heartbeat(pipe, worker, facts, redis_now(client) if now_at is None else now_at)
        pipe.execute()
    except redis.RedisError:
        return


def add_live_count(pipe: Any, now_at: float) -> None:
    """Add to a pipeline the count of workers seen recently."""
    pipe.zcount(redis_keys.WORKERS, now_at - SEEN_S, "+inf")


def work_was_lost(client: RedisClient, worker: str) -> None:
    """Note that the worker's process crashed: no work, no model. Raises redis-py's own errors."""
    client.hset(redis_keys.worker(worker), mapping={"hand": "", "model": ""})


def forget_workers(client: RedisClient, names: Sequence[str]) -> None:
    """Remove these workers, before they expire. Raises redis-py's own errors."""
    if names:
        pipe = client.pipeline(transaction=False)
        pipe.zrem(redis_keys.WORKERS, *names)
        pipe.delete(*map(redis_keys.worker, names))
        pipe.execute()


def _answers(pipe: Any) -> list[Any]:
    """A pipeline's replies; an error about one key is returned in its place, others are raised."""
    answers: list[Any] = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, redis.ResponseError):
            raise answer
    return answers


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError(f"not a whole number: {text[:20]!r}")
    return int(text)


def _moment(text: str) -> float:
    found = float(text)
    if not 0 <= found < 1e11:  # the year 5138; NaN is neither
        raise ValueError("not a time")
    return found
