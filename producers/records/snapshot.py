"""The current state of a job, from the best source: manifest, Redis, or the store alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import redis

from headrace.coordination.job_counters import note_in_progress, rows_in_progress
from headrace.coordination.live_workers import add_live_count
from headrace.coordination.redis_clock import redis_now
from headrace.coordination.redis_values import as_count, as_record
from headrace.coordination.store_trouble import TROUBLE_S
from headrace.redis_client import RedisClient, as_text
from headrace.storage.store import Store
from producers.records.manifest import parts_of, read_receipts, stages_of
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import (
    JobState,
    Manifest,
    parse_manifest,
    parse_parked,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job in numbers; `--json` prints exactly these fields (docs/reference/status.md)."""

    job: str
    output: str
    state: JobState
    reason: str
    rows: int
    """Rows planned."""
    rows_done: int
    """Rows in committed parts."""
    rows_live: int
    """Rows scored in chunks that are not committed yet."""
    ok: int
    errors: int
    errors_by_type: Mapping[str, int]
    tokens: int
    chunks: int
    chunks_done: int
    chunks_leased: int
    chunks_parked: int
    workers: int
    submitted_s: float
    finished_s: float | None
    task: str
    model: str
    parked: tuple[dict[str, Any], ...] = field(default=())
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Busy seconds of each stage in committed chunks, the longest first; stages overlap."""
    deadline_s: float | None = None
    """When it should be done, seconds since the epoch."""
    deadline_at_risk: bool = False
    """It ended, or will probably end, after its deadline."""
    rows_copied: int = 0
    """Of `rows_done`, copied from an earlier output (`--reuse`, `retry --errors`)."""
    cause: str = ""
    """Class of the error that ended it, where all its chunks share one."""
    note: str = ""
    """How far a training is, in words; empty for other jobs."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_over(self) -> bool:
        return self.state in ("finished", "failed", "cancelled")


NO_REDIS = "read from the files alone; no Redis was given"
REDIS_DOWN = "Redis does not answer; read from the files alone"


def take_snapshot(
    store: Store, job: Job, client: RedisClient | None, *, without: str = NO_REDIS
) -> Snapshot:
    """The current state of the job; `client` is None if there is no Redis, and `without` says why."""
    data = store.read(output_layout.MANIFEST)
    if data is not None:
        return _of_manifest(job, parse_manifest(data, f"{store.uri}/{output_layout.MANIFEST}"))
    if client is not None:
        try:
            live = _of_redis(store, job, client)
            return live or _of_store(store, job, "no controller is tracking the job")
        except redis.RedisError:
            return _of_store(store, job, REDIS_DOWN)
    return _of_store(store, job, without)


def _of_manifest(job: Job, manifest: Manifest) -> Snapshot:
    t = manifest.totals
    return _snapshot(
        job, manifest.state, manifest.reason, cause=manifest.cause, rows_done=t.rows, rows_copied=t.reused,
        ok=t.ok, errors=t.errors,
        errors_by_type=t.errors_by_type, tokens=t.tokens, chunks_done=t.parts, chunks_parked=t.parked,
        finished_s=manifest.finished_s, deadline_at_risk=_is_late(job, manifest.finished_s),
        parked=tuple(p.model_dump() for p in manifest.parked),
        stages_s=t.stages_s,
    )  # fmt: skip


def _of_redis(store: Store, job: Job, client: RedisClient) -> Snapshot | None:
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(redis_keys.job(job.key))
    pipe.hvals(redis_keys.live(job.key))
    pipe.hgetall(redis_keys.errors(job.key))
    pipe.hlen(redis_keys.marks(job.key))
    redis_at = redis_now(client)
    add_live_count(pipe, redis_at)
    pipe.get(redis_keys.scale(job.options.queue))
    raw, live, errors, leased, workers, answer = pipe.execute()
    if b"epoch" not in raw:
        return None
    facts = {as_text(k): as_text(v) for k, v in raw.items()}

    def number(name: str) -> int:
        return as_count(facts.get(name))

    parked = _parked(store)
    return _snapshot(
        job, "cancelled" if "cancelled" in facts else "paused" if "paused" in facts else "running",
        _trouble(facts.get("trouble"), redis_at),
        rows_done=number("done_rows"), rows_copied=number("copied_rows"),
        ok=number("ok_rows"), errors=number("error_rows"),
        errors_by_type={as_text(k): as_count(v) for k, v in errors.items()}, tokens=number("tokens"),
        chunks_done=number("done_chunks"), chunks_parked=len(parked), chunks_leased=int(leased),
        rows_live=rows_in_progress(live), note=note_in_progress(live), workers=int(workers), parked=tuple(parked),
        stages_s=_stages(facts), deadline_at_risk=_at_risk(job, answer, time.time()),
    )  # fmt: skip


def _of_store(store: Store, job: Job, why: str) -> Snapshot:
    receipts = read_receipts(store, job, list(parts_of(store)))
    by_type: dict[str, int] = {}
    for receipt in receipts:
        for kind, rows in receipt.errors_by_type.items():
            by_type[kind] = by_type.get(kind, 0) + rows
    paused = store.head(output_layout.PAUSED) is not None
    cancelled = store.head(output_layout.CANCELLED) is not None
    parked = _parked(store)
    return _snapshot(
        job, "cancelled" if cancelled else "paused" if paused else "running", why,
        rows_done=sum(r.rows for r in receipts),
        rows_copied=sum(r.reused for r in receipts), ok=sum(r.ok for r in receipts),
        errors=sum(r.errors for r in receipts), errors_by_type=by_type,
        tokens=sum(r.tokens for r in receipts), chunks_done=len(receipts),
        chunks_parked=len(parked), parked=tuple(parked), stages_s=stages_of(receipts),
    )  # fmt: skip


def _parked(store: Store) -> list[dict[str, Any]]:
    found = []
    for info in store.list(output_layout.PARKED):
        data, chunk = store.read(info.name), output_layout.chunk_of_record(info.name)
        if data is not None and chunk is not None:
            found.append(parse_parked(data, chunk).model_dump())
    return found


def _stages(facts: Mapping[str, str]) -> dict[str, float]:
    """From the counters in Redis."""
    found = {
        name.removeprefix(redis_keys.STAGE_MS): as_count(ms) / 1000
        for name, ms in facts.items()
        if name.startswith(redis_keys.STAGE_MS)
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _trouble(told: str | None, now_at: float) -> str:
    """Why a chunk failed last, when that is not long ago."""
    found = as_record(told)
    try:
        if now_at - float(found["at_s"]) > TROUBLE_S:
            return ""
        return f"chunk {int(found['chunk'])}: {found['cause']}: {found['why']}"
    except (ValueError, KeyError, TypeError, OverflowError):
        return ""


def _is_late(job: Job, at: float) -> bool:
    return job.options.deadline_s is not None and at > job.options.deadline_s


def _at_risk(job: Job, answer: bytes | None, now_at: float) -> bool:
    """Whether the deadline has passed, or the last decision on the job's queue saw it in danger."""
    if job.options.deadline_s is None or _is_late(job, now_at):
        return _is_late(job, now_at)
    told = as_record(answer)
    try:
        return (
            bool(told["deadline_at_risk"])
            and now_at - float(told["at_s"]) < redis_keys.SCALE_FRESH_S
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return False


def _snapshot(job: Job, state: JobState, reason: str, **known: Any) -> Snapshot:
    defaults: dict[str, Any] = {
        "rows_live": 0,
        "chunks_leased": 0,
        "workers": 0,
        "finished_s": None,
        "parked": (),
    }
    return Snapshot(
        job=job.id, output=job.output, state=state, reason=reason, rows=job.rows, chunks=job.chunks,
        submitted_s=job.submitted_s, deadline_s=job.options.deadline_s,
        task=job.spec.task, model=job.spec.model.uri, **{**defaults, **known},
    )  # fmt: skip
