"""The names of headrace's keys in Redis: one prefix, one expiry each. `{id}` is a run key.

key                          type     life                what
headrace:jobs                hash     7 days, renewed     job id → output URI, a copy of the registry
headrace:queue:*             various  7 days, renewed     kombu's own: lists, unacked, bindings
headrace:job:{id}            hash     7 days, renewed     epoch, state, cancelled, paused, rows, …
headrace:marks:{id}          hash     7 days, renewed     chunk → mark of the attempt that holds it
headrace:done:{id}           hash     7 days, renewed     chunk → receipt, until the controller took it
headrace:counted:{id}        string   7 days, renewed     a bit per chunk: it is in the counters
headrace:errors:{id}         hash     7 days, renewed     error class → rows
headrace:live:{id}           hash     7 days, renewed     attempt → rows scored, not yet committed
headrace:lease:{id}:{chunk}  string   lease_s             attempt id
headrace:lock:{id}           string   10 s                the controller that reconciles the job
headrace:workers             zset     90 s                worker → last heartbeat
headrace:worker:{name}       hash     90 s                device, dtypes, model, current chunks, progress
headrace:rejected            list     7 days, 1,000 last  dead-letter list
headrace:controller          string   10 s                the last heartbeat of a controller
headrace:speeds              hash     30 days, renewed    queue and model → tokens/s of one worker
headrace:loads               hash     30 days, renewed    the same → seconds to load the model
headrace:scale:{queue}       string   1 day, renewed      the last answer to how many workers
headrace:sent:{queue}        hash     7 days, renewed     RabbitMQ only: message → content, when sent
headrace:instance            string   7 days, renewed     an id of this Redis: where the lock of a job is
headrace:ended               list     1 day, 1,000 last   how jobs ended: queue, state, reason, when
headrace:excluded            hash     1 day, renewed      host → why it gets no work, and until when
headrace:drift               hash     2 days, renewed     queue and reference → the last verdict
headrace:hosts:{queue}       hash     1 day, renewed      host → slots, running, when it asked
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.records.manifest import Receipt

PREFIX = "headrace:"
JOB_LIFE_S = 7 * 86_400
WORKER_LIFE_S = 90
CONTROLLER_LIFE_S = 10
SPEEDS_LIFE_S = 30 * 86_400
ENDED_LIFE_S = 86_400
EXCLUDED_LIFE_S = 86_400
DRIFT_LIFE_S = 2 * 86_400
SCALE_LIFE_S = 86_400
SCALE_FRESH_S = 60.0
"""Chosen: a fleet asks every two seconds, KEDA every ten; an older answer is about another night."""

JOBS = f"{PREFIX}jobs"
WORKERS = f"{PREFIX}workers"
INSTANCE = f"{PREFIX}instance"
ENDED = f"{PREFIX}ended"
EXCLUDED = f"{PREFIX}excluded"
DRIFT = f"{PREFIX}drift"
REJECTED = f"{PREFIX}rejected"
CONTROLLER = f"{PREFIX}controller"
SPEEDS = f"{PREFIX}speeds"
MODEL_LOAD_SECONDS = f"{PREFIX}loads"
QUEUE_PREFIX = f"{PREFIX}queue:"
"""Before each of kombu's own keys, which `headrace.queue.kombu_layout` knows."""


def job(job_key: str) -> str:
    return f"{PREFIX}job:{job_key}"


def marks(job_key: str) -> str:
    return f"{PREFIX}marks:{job_key}"


def done(job_key: str) -> str:
    return f"{PREFIX}done:{job_key}"


def counted(job_key: str) -> str:
    return f"{PREFIX}counted:{job_key}"


def errors(job_key: str) -> str:
    return f"{PREFIX}errors:{job_key}"


def live(job_key: str) -> str:
    return f"{PREFIX}live:{job_key}"


def lease_prefix(job_key: str) -> str:
    """What the leases of a job begin with, before the number of the chunk."""
    return f"{PREFIX}lease:{job_key}:"


def lease(job_key: str, chunk: int) -> str:
    return f"{lease_prefix(job_key)}{chunk}"


def lock(job_key: str) -> str:
    return f"{PREFIX}lock:{job_key}"


def worker(name: str) -> str:
    return f"{PREFIX}worker:{name}"


def scale(queue: str) -> str:
    return f"{PREFIX}scale:{queue}"


def sent(queue: str) -> str:
    return f"{PREFIX}sent:{queue}"


def hosts(queue: str) -> str:
    return f"{PREFIX}hosts:{queue}"


def of_job(job_key: str) -> list[str]:
    """Every key of a job but its leases."""
    kinds = (job, marks, done, counted, errors, live, lock)
    return [kind(job_key) for kind in kinds]


COUNTERS = ("done_chunks", "done_rows", "ok_rows", "error_rows", "copied_rows", "tokens")
STAGE_MS = "stage_ms:"
"""Before a stage's name: the counter of its busy milliseconds."""


def counters_of(receipt: Receipt) -> dict[str, int]:
    """The live counters in `headrace:job:{id}` and what a committed chunk adds to each."""
    return {
        "done_chunks": 1,
        "done_rows": receipt.rows,
        "ok_rows": receipt.ok,
        "error_rows": receipt.errors,
        "copied_rows": receipt.reused,
        "tokens": receipt.tokens,
        **{f"{STAGE_MS}{stage}": round(1000 * s) for stage, s in receipt.stages_s.items()},
    }
