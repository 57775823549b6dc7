"""The names of everything that can be observed: spans, attributes, metrics (logs: `log_names.py`).

Each name is defined here once, with one line that says what it is. `docs/reference/telemetry.md`
has the same lines, and a test compares the two. Messaging names follow OpenTelemetry's conventions,
1.40 and newer; ours start with `headrace.`, are flat, and carry their unit where it is not a count.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

SCOPE = "headrace"
SERVICE_PRODUCER = "headrace-producer"
SERVICE_WORKER = "headrace-worker"
SERVICE_CONTROLLER = "headrace-controller"

# -- spans: a root and its children; the conventions ask for `{queue}` after a messaging operation
JOB = "job"
PROCESS = "process"
RECEIVE = "receive"
SEND = "send"
STAGES = ("read", "tokenize", "forward", "decode", "write", "commit")
PUBLISH = "publish"

SPANS: dict[str, str] = {
    "process {queue}": "one attempt on one chunk: root of the chunk's trace, linked to the job's",
    "receive {queue}": "from the arrival of the message at the worker to the start of the attempt",
    "read": "rows of the chunk read from the corpus",
    "tokenize": "texts turned into token ids",
    "forward": "batches on the device",
    "decode": "the model's output turned into columns",
    "write": "the part built and its footer checked",
    "commit": "the part created under its name, only if absent",
    "job": "one run over a corpus: the root of the job's trace",
    "plan": "the corpus cut into chunks",
    "send {queue}": "messages published; one span per producer process",
    "follow": "a producer waits for chunks and counts them",
    "finish": "parts recounted, manifest and _SUCCESS written",
    "POST {route}": "one request to a synchronous worker, with `tokenize` and `forward` below it",
}

# -- attributes
ERROR_TYPE = "error.type"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_COUNT = "messaging.batch.message_count"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
PREFIX = "headrace."
JOB_ID = "headrace.job"
CHUNK = "headrace.chunk"
ATTEMPT = "headrace.attempt"
ATTEMPT_NUMBER = "headrace.attempt_number"
WORKER = "headrace.worker"
DEVICE = "headrace.device"
MODEL = "headrace.model"
MODEL_REVISION = "headrace.model_revision"
TASK = "headrace.task"
DTYPE = "headrace.dtype"
STAGE = "headrace.stage"
OUTCOME = "headrace.outcome"
STOP_REASON = "headrace.stop_reason"
LAST_STAGE = "headrace.last_stage"
SEEN_BY = "headrace.seen_by"
BUSY_NS = "headrace.busy_ns"
CALLS = "headrace.calls"
RAISED = "headrace.raised"
CALL_P50_NS = "headrace.call_p50_ns"
CALL_P95_NS = "headrace.call_p95_ns"
CALL_P99_NS = "headrace.call_p99_ns"

Kind = type[str] | type[int] | type[float]


class Attribute(NamedTuple):
    type: Kind
    text: str


ATTRIBUTES: dict[str, Attribute] = {
    ERROR_TYPE: Attribute(str, "class of the error, as in the part's `error_type`"),
    MESSAGING_SYSTEM: Attribute(str, "always `celery`"),
    MESSAGING_OPERATION_TYPE: Attribute(str, "`send`, `receive` or `process`"),
    MESSAGING_OPERATION_NAME: Attribute(str, "the same word, which starts the span's name"),
    MESSAGING_DESTINATION: Attribute(str, "name of the queue"),
    MESSAGING_MESSAGE_ID: Attribute(str, "Celery's id of the message"),
    MESSAGING_BATCH_COUNT: Attribute(int, "messages published within the span"),
    HTTP_METHOD: Attribute(str, "`POST`"),
    HTTP_ROUTE: Attribute(str, "route of the request, such as `/v1/classify`"),
    HTTP_STATUS: Attribute(int, "status of the answer"),
    JOB_ID: Attribute(str, "id of the job"),
    CHUNK: Attribute(int, "number of the chunk"),
    ATTEMPT: Attribute(str, "id of the attempt: the lease's value"),
    ATTEMPT_NUMBER: Attribute(int, "number of this attempt on the chunk, from 1"),
    WORKER: Attribute(str, "name of the worker"),
    DEVICE: Attribute(str, "device of the worker"),
    MODEL: Attribute(str, "model of the job, without credentials"),
    MODEL_REVISION: Attribute(str, "commit or digest of the model"),
    TASK: Attribute(str, "what the model does"),
    DTYPE: Attribute(str, "precision as the job resolved it"),
    STAGE: Attribute(str, "stage that a child span sums up"),
    OUTCOME: Attribute(str, "how the attempt ended: one of `OUTCOMES`; a job: its state"),
    STOP_REASON: Attribute(str, "why it stopped between batches: drain, cancelled or paused"),
    LAST_STAGE: Attribute(str, "the last stage that a crashed worker reported"),
    SEEN_BY: Attribute(str, "the process that saw the crash and wrote the span"),
    "headrace.suspect_rows": Attribute(int, "rows in the model when the worker crashed"),
    BUSY_NS: Attribute(int, "nanoseconds inside the stage, summed over its calls and threads"),
    CALLS: Attribute(int, "times the stage was entered"),
    RAISED: Attribute(int, "calls that ended in an exception, handled ones included"),
    CALL_P50_NS: Attribute(int, "median of a call's nanoseconds; of `forward`: of a batch's"),
    CALL_P95_NS: Attribute(int, "95th percentile of a call's nanoseconds"),
    CALL_P99_NS: Attribute(int, "99th percentile of a call's nanoseconds"),
    "headrace.rows": Attribute(int, "rows that went through"),
    "headrace.ok_rows": Attribute(int, "rows with a prediction"),
    "headrace.error_rows": Attribute(int, "rows with an error"),
    "headrace.truncated_rows": Attribute(int, "rows longer than max-length"),
    "headrace.duplicate_rows": Attribute(int, "rows whose text was in the window already"),
    "headrace.reused_rows": Attribute(int, "rows copied from an earlier output"),
    "headrace.computed_rows": Attribute(int, "rows that went through the model"),
    "headrace.tokens": Attribute(int, "tokens of the rows, special tokens included"),
    "headrace.generated_tokens": Attribute(
        int, "tokens that the model wrote, in `headrace.tokens`"
    ),
    "headrace.prompt_tokens": Attribute(
        int, "tokens of prompts that the model read, in `headrace.tokens`"
    ),
    "headrace.generated_tokens_per_s": Attribute(
        float, "tokens that the model wrote a second, of all rows together"
    ),
    "headrace.time_to_first_token_s": Attribute(
        float, "mean seconds from a row's start in the model to its first token"
    ),
    "headrace.padding_tokens": Attribute(int, "padding tokens, not counted in `headrace.tokens`"),
    "headrace.batches": Attribute(int, "batches on the device"),
    "headrace.batch_fill": Attribute(float, "share of the token budget that the batches filled"),
    "headrace.halvings": Attribute(int, "batches halved because the device had no memory"),
    "headrace.bytes": Attribute(int, "bytes read or written"),
    "headrace.retries": Attribute(int, "retried calls of the store"),
    "headrace.chunks": Attribute(int, "chunks of the job, or published within the span"),
    "headrace.messages": Attribute(int, "messages published within the span"),
    "headrace.files": Attribute(int, "input files of the job"),
    "headrace.parked": Attribute(int, "chunks parked"),
}

OUTCOMES: dict[str, str] = {
    "ok": "the part was committed",
    "already_done": "another attempt committed first; this one's part was dropped",
    "error": "the attempt failed",
    "stopped": "drain, cancel or pause; not counted as an attempt",
    "lease_lost": "another attempt holds the chunk; not counted as an attempt",
    "worker_lost": "the worker crashed; the process that saw it wrote the span",
}

# -- metrics

Seen = Literal["worker", "controller", "both"]


class Metric(NamedTuple):
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    text: str
    source: Seen = "worker"
    """Which processes have it."""
    buckets: tuple[float, ...] = ()


SHARES = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
"""Chosen: chunks are sized for some 30 s, and the time limit of a batch is 600 s."""
FIRST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Chosen: from a small prompt on a GPU to a long one on a CPU."""

ROWS = "headrace.rows"
ERRORS = "headrace.errors"
TOKENS = "headrace.tokens.scored"
PADDING = "headrace.tokens.padding"
REUSE_HITS = "headrace.reuse.hits"
DUPLICATES = "headrace.duplicates"
BATCHES = "headrace.batches"
BATCH_FILL = "headrace.batch.fill"
HALVINGS = "headrace.batch.halvings"
ATTEMPTS = "headrace.attempts"
CHUNK_DURATION = "headrace.chunk.duration"
STAGE_DURATION = "headrace.stage.duration"
LEASE_LOSSES = "headrace.lease.losses"
REDELIVERIES = "headrace.redeliveries"
MEMORY_USAGE = "headrace.device.memory.usage"
MEMORY_LIMIT = "headrace.device.memory.limit"
UTILIZATION = "headrace.device.utilization"
SPANS_DROPPED = "headrace.spans.dropped"
GENERATION_TOKENS = "headrace.generation.tokens"
GENERATION_SPEED = "headrace.generation.speed"
FIRST_TOKEN = "headrace.generation.time_to_first_token"

_DEVICE = ("worker", "device")

METRICS: dict[str, Metric] = {
    ROWS: Metric("counter", "{row}", ("status",), "rows committed, by status"),
    ERRORS: Metric("counter", "{row}", (ERROR_TYPE,), "error rows committed, by class"),
    TOKENS: Metric("counter", "{token}", (), "tokens of rows committed"),
    PADDING: Metric("counter", "{token}", (), "tokens of padding the device saw"),
    REUSE_HITS: Metric("counter", "{row}", (), "rows copied from an earlier output"),
    DUPLICATES: Metric("counter", "{row}", (), "rows whose text was in the window already"),
    BATCHES: Metric("counter", "{batch}", (), "batches on the device"),
    BATCH_FILL: Metric(
        "histogram", "1", (), "share of the token budget that a chunk's batches filled",
        buckets=SHARES,
    ),
    HALVINGS: Metric(
        "counter", "{batch}", ("device",), "batches halved because the device had no memory"
    ),
    ATTEMPTS: Metric(
        "counter", "{attempt}", ("outcome", ERROR_TYPE), "attempts on chunks, by outcome", "both"
    ),
    CHUNK_DURATION: Metric(
        "histogram", "s", ("outcome",), "duration of an attempt", "both", SECONDS
    ),
    STAGE_DURATION: Metric(
        "histogram", "s", ("stage",), "busy seconds of a stage in an attempt", buckets=SECONDS
    ),
    LEASE_LOSSES: Metric("counter", "{lease}", (), "leases lost to another attempt"),
    REDELIVERIES: Metric(
        "counter", "{message}", ("reason",), "messages dropped because the chunk had a part or a lease"
    ),
    MEMORY_USAGE: Metric(
        "gauge", "By", _DEVICE, "memory in use: a GPU's total, or a CPU worker's own"
    ),
    MEMORY_LIMIT: Metric("gauge", "By", _DEVICE, "memory available: of the GPU, or of the host"),
    UTILIZATION: Metric(
        "gauge", "1", _DEVICE, "share of the last chunk's time with a batch on the device"
    ),
    GENERATION_TOKENS: Metric(
        "counter", "{token}", ("direction",),
        "tokens of rows that were generated: `in` of prompts, `out` of answers",
    ),
    GENERATION_SPEED: Metric(
        "gauge", "{token}/s", _DEVICE, "tokens written a second in the last chunk, of all rows"
    ),
    FIRST_TOKEN: Metric(
        "histogram", "s", (), "time from a row's start in the model to its first token",
        buckets=FIRST_SECONDS,
    ),
    SPANS_DROPPED: Metric(
        "counter", "{span}", ("reason",), "spans that reached no collector", "both"
    ),
    "headrace.redis.up": Metric(
        "gauge", "{server}", (), "1 while Redis answers the controller", "controller"
    ),
    "headrace.redis.memory": Metric("gauge", "By", (), "memory that Redis uses", "controller"),
    "headrace.redis.memory.limit": Metric(
        "gauge", "By", (), "memory that Redis may use; 0: no limit", "controller"
    ),
    "headrace.jobs": Metric(
        "gauge", "{job}", ("queue", "state"), "active jobs: running or paused", "controller"
    ),
    "headrace.jobs.ended": Metric(
        "gauge", "{job}", ("queue", "state", "reason"),
        "jobs that ended in the last hour, by state and reason", "controller",
    ),
    "headrace.deadline.missed": Metric(
        "gauge", "{job}", ("queue",),
        "jobs past their deadline: active, or ended late in the last hour", "controller",
    ),
    "headrace.hosts.excluded": Metric(
        "gauge", "{host}", ("cause",),
        "hosts that get no work, since they failed where others did not", "controller",
    ),
    "headrace.drift": Metric(
        "gauge", "1", ("queue", "feature"),
        "distance of the last night from its reference, as a part of its limit: above 1 is drift",
        "controller",
    ),
    "headrace.accuracy.expected": Metric(
        "gauge", "1", ("queue",), "accuracy that the scores of the last night promise",
        "controller",
    ),
    "headrace.job.chunks": Metric(
        "gauge", "{chunk}", ("queue", "state"), "chunks: new, sent, done or parked", "controller"
    ),
    "headrace.backlog.tokens": Metric(
        "gauge", "{token}", ("queue",), "tokens not scored yet", "controller"
    ),
    "headrace.backlog.rows": Metric(
        "gauge", "{row}", ("queue",), "rows not scored yet", "controller"
    ),
    "headrace.oldest.job": Metric(
        "gauge", "s", ("queue",), "age of the oldest active job", "controller"
    ),
    "headrace.oldest.chunk": Metric(
        "gauge", "s", ("queue",), "age of the oldest chunk that was sent and has no part",
        "controller",
    ),
    "headrace.progress.age": Metric(
        "gauge", "s", ("queue",), "longest time without progress of a running job",
        "controller",
    ),
    "headrace.deadline": Metric(
        "gauge", "s", ("queue",), "seconds to the nearest deadline", "controller"
    ),
    "headrace.deadline.at_risk": Metric(
        "gauge", "{job}", ("queue",),
        "1 while a deadline may be missed even with the maximum number of workers", "controller",
    ),
    "headrace.workers": Metric(
        "gauge", "{worker}", ("queue", "state"), "live workers: busy or idle", "controller"
    ),
    "headrace.workers.wanted": Metric(
        "gauge", "{worker}", ("queue",), "workers that the scaling decision asks for", "controller"
    ),
    "headrace.worker.tokens": Metric(
        "gauge", "{token}/s", ("queue",),
        "measured speed of one worker, mean over active jobs", "controller",
    ),
}  # fmt: skip

JOB_LABEL = frozenset({ROWS, ERRORS, TOKENS, ATTEMPTS})
"""Metrics that have the label `headrace.job` too, for jobs on the list of `label_jobs`."""


def prometheus_name(name: str) -> str:
    """A metric as Prometheus has it, without `_total`, `_bucket` and the like.

    Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
    """
    metric = METRICS[name]
    base = name.replace(".", "_")
    if metric.unit.endswith("}/s"):
        return f"{base}_per_second"
    if metric.unit == "1":
        return f"{base}_ratio" if metric.kind == "gauge" else base
    return base + {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")


def prometheus_series(name: str) -> tuple[str, ...]:
    """The names of a metric's series."""
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return tuple(prometheus_name(name) + end for end in ends[METRICS[name].kind])
