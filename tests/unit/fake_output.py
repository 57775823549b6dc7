"""The output of a job that was never run: parts, receipts, manifest and traces, drawn from a seed."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.storage.local import LocalStore
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.job_trace import JobTrace
from headrace.tracing.stages import Clock
from headrace.tracing.trace_file import spans_to_parquet
from producers.records.manifest import build_manifest
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records import part_schema
from schemas.records.job import (
    Column,
    Inputs,
    Job,
    ModelRef,
    Options,
    Spec,
    job_id,
)
from schemas.records.manifest import Receipt

START_S = 1_790_000_000.0
PRODUCER = Telemetry({"service.name": names.SERVICE_PRODUCER})
WORKER = Telemetry({"service.name": names.SERVICE_WORKER})
STAGE_SECONDS = {
    "read": 0.2,
    "tokenize": 2.0,
    "forward": 24.0,
    "decode": 1.2,
    "write": 0.8,
    "commit": 0.1,
}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self, at_s: float) -> None:
        self.at_ns = int(at_s * 1e9)
        self.clock = Clock(wall_ns=lambda: self.at_ns, steady_ns=lambda: self.at_ns)

    def pass_s(self, seconds: float) -> None:
        self.at_ns += int(seconds * 1e9)


def make_job(output: str, chunks: int, rows: int, task: str, trace: JobTrace, corpus: str) -> Job:
    spec = Spec(
        inputs_digest="sha256:" + "ab" * 32,
        text_column="text",
        id_column="id",
        columns=("stars",),
        task=task,
        model=ModelRef(uri="/models/minilm-sst2", revision="sha256:" + "cd" * 32),
        dtype="float32",
    )
    inputs = Inputs(
        patterns=(corpus,),
        digest=spec.inputs_digest,
        files=3,
        rows=chunks * rows,
        bytes=chunks * rows * 180,
    )
    return Job(
        id=job_id(spec),
        output=output,
        spec=spec,
        options=Options(),
        inputs=inputs,
        id_type="int64",
        text_type="string",
        carried=(Column(name="stars", type="int8"),),
        chunks=chunks,
        rows=chunks * rows,
        submitted_s=START_S,
        versions={"headrace": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
        command="headrace run /corpus --output /out --model /models/minilm-sst2",
        trace_id=trace.trace_id,
        span_id=trace.span_id,
    )


def write_fake_output(
    folder: Path,
    chunks: int = 12,
    rows: int = 300,
    workers: int = 2,
    task: str = "text-classification",
    error_share: float = 0.01,
    lost: int = 1,
    seed: int = 1,
    corpus: str = "",
) -> LocalStore:
    """A finished job; `lost` chunks had a first attempt that failed; `corpus`: its one file."""
    rng = random.Random(seed)
    store = LocalStore(folder)
    trace = JobTrace(PRODUCER, queue="default", clock=Hands(START_S).clock)
    job = make_job(str(folder), chunks, rows, task, trace, corpus or "/corpus/*.parquet")
    store.create(output_layout.JOB, job.model_dump_json().encode())
    free = {f"host-{i}/cpu": START_S + 3 + 2 * i for i in range(workers)}
    receipts = []
    for chunk in range(chunks):
        if chunk % max(1, chunks // max(1, lost)) == 1 and lost:
            worker = min(free, key=lambda w: free[w])
            free[worker] = _fail(store, job, chunk, worker, free[worker])
        worker = min(free, key=lambda w: free[w])
        receipt, free[worker] = _score(
            store, job, chunk, rows, worker, free[worker], error_share, rng
        )
        receipts.append(receipt)
    end_s = max(free.values()) + 1
    manifest = build_manifest(job, receipts, [], finished_s=end_s, versions=job.versions)
    store.replace(output_layout.MANIFEST, manifest.model_dump_json().encode())
    _trace_job(store, job, end_s, manifest.totals.rows)
    return store


def _observation(job: Job, chunk: int, worker: str, hands: Hands, number: int) -> ChunkTrace:
    return ChunkTrace(
        WORKER,
        job=job.id,
        chunk=chunk,
        attempt=f"{chunk:04x}{number}",
        queue="default",
        clock=hands.clock,
        traceparent=f"00-{job.trace_id}-{job.span_id}-01",
        worker=worker,
        device="cpu",
        model=job.spec.model.uri,
        attempt_number=number,
    )


def _fail(store: LocalStore, job: Job, chunk: int, worker: str, at_s: float) -> float:
    hands = Hands(at_s)
    observe = _observation(job, chunk, worker, hands, 1)
    with observe("read"):
        hands.pass_s(2)
    spans = observe.finish("error", TimeoutError())
    store.create(output_layout.trace(chunk, f"{chunk:04x}1"), spans_to_parquet(spans))
    return at_s + 3


def _score(
    store: LocalStore,
    job: Job,
    chunk: int,
    rows: int,
    worker: str,
    at_s: float,
    error_share: float,
    rng: random.Random,
) -> tuple[Receipt, float]:
    hands = Hands(at_s)
    observe = _observation(job, chunk, worker, hands, 2)
    slow = rng.lognormvariate(0, 0.25)
    lengths = np.clip(np.random.default_rng(chunk).lognormal(3.4, 0.7, rows), 3, 512).astype(
        "int32"
    )
    tokens, padding = int(lengths.sum()), int(lengths.sum() * rng.uniform(0.005, 0.03))
    for stage, seconds in STAGE_SECONDS.items():
        calls = 40 if stage == "forward" else 4
        for i in range(calls):
            with observe(stage, rows=rows // calls) as call:
                hands.pass_s(slow * seconds / calls * rng.lognormvariate(0, 0.3))
                if stage == "forward":
                    call.add(tokens=tokens // calls, batches=1, padding_tokens=padding // calls)
            del i
    part = _part(job, chunk, rows, lengths, error_share, rng, observe.trace_id)
    errors = Counter(v for v in part["error_type"].to_pylist() if v)
    ok = rows - sum(errors.values())
    spans = observe.finish(
        rows=rows,
        ok_rows=ok,
        error_rows=rows - ok,
        tokens=tokens,
        padding_tokens=padding,
        batches=40,
    )
    data = _bytes(part, job, chunk, rows, ok, errors, observe.trace_id)
    store.create(output_layout.part(chunk), data)
    store.create(output_layout.trace(chunk, f"{chunk:04x}2"), spans_to_parquet(spans))
    receipt = Receipt(
        chunk=chunk,
        rows=rows,
        ok=ok,
        errors=rows - ok,
        errors_by_type=dict(errors),
        bytes=len(data),
        sha256="0" * 64,
        attempt=f"{chunk:04x}2",
        tokens=tokens,
        computed=ok,
        padding_tokens=padding,
        truncated=int((lengths >= 512).sum()),
        batches=40,
        worker=worker,
        device="cpu",
        trace_id=observe.trace_id,
        started_s=at_s,
        seconds=spans[0].duration_nano / 1e9,
        stages_s=observe.stages_s(),
    )
    store.replace(output_layout.receipt(chunk), receipt.model_dump_json().encode())
    return receipt, at_s + spans[0].duration_nano / 1e9


def _part(
    job: Job,
    chunk: int,
    rows: int,
    lengths: np.ndarray,
    error_share: float,
    rng: random.Random,
    trace_id: str,
) -> pa.Table:
    kinds = [
        rng.choice(["null_text", "invalid_text", "out_of_memory"])
        if rng.random() < error_share
        else None
        for _ in range(rows)
    ]
    fine = [kind is None for kind in kinds]
    columns: dict[str, Any] = {
        "id": pa.array(range(chunk * rows, (chunk + 1) * rows), pa.int64()),
        "stars": pa.array([rng.randint(1, 5) for _ in range(rows)], pa.int8()),
        **_task_columns(job.spec.task, fine, rng),
        "n_tokens": pa.array(
            [int(n) if f else None for n, f in zip(lengths, fine, strict=True)], pa.int32()
        ),
        "truncated": pa.array([bool(n >= 512) for n in lengths]),
        "status": pa.array(["ok" if f else "error" for f in fine]).dictionary_encode(),
        "error_type": pa.array(kinds, pa.string()).dictionary_encode(),
        "error_message": pa.array(
            [None if f else "the row's text is not valid" for f in fine], pa.string()
        ),
        "trace_id": pa.array([None if f else trace_id for f in fine], pa.string()),
        "text_hash": pa.array([rng.randbytes(16) for _ in range(rows)], pa.binary(16)),
    }
    return pa.table(columns)


def _task_columns(task: str, fine: list[bool], rng: random.Random) -> dict[str, pa.Array]:
    if task == "text-classification":
        scores = [rng.betavariate(8, 1.2) / 2 + 0.5 if f else None for f in fine]
        labels = [
            rng.choices(["positive", "negative", "neutral"], [6, 3, 1])[0] if f else None
            for f in fine
        ]
        return {
            "predicted_label": pa.array(labels).dictionary_encode(),
            "score": pa.array(scores, pa.float32()),
        }
    if task == "token-classification":
        entities = [
            [
                {
                    "label": rng.choice(["PER", "ORG", "LOC"]),
                    "start": 0,
                    "end": 4,
                    "score": rng.random(),
                    "text": "Anna",
                }
            ]
            * rng.randint(0, 3)
            if f
            else None
            for f in fine
        ]
        return {"entities": pa.array(entities), "cut_word": pa.array([False] * len(fine))}
    vectors = [[rng.gauss(0, 1) for _ in range(8)] if f else None for f in fine]
    return {"embedding": pa.array(vectors, pa.list_(pa.float32(), 8))}


def _bytes(
    part: pa.Table, job: Job, chunk: int, rows: int, ok: int, errors: Counter[str], trace_id: str
) -> bytes:
    (pattern,) = job.inputs.patterns
    file, first_row = pattern, chunk * rows
    if "*" in pattern:
        file, first_row = pattern.replace("*", str(chunk % 3)), chunk // 3 * rows
    facts = {
        part_schema.META_JOB: job.id,
        part_schema.META_CHUNK: str(chunk),
        part_schema.META_ATTEMPT: f"{chunk:04x}2",
        part_schema.META_TRACE: trace_id,
        part_schema.META_FILE: file,
        part_schema.META_FIRST_ROW: str(first_row),
        part_schema.META_ROWS: str(rows),
        part_schema.META_OK: str(ok),
        part_schema.META_ERRORS: json.dumps(errors),
        part_schema.META_TASK: job.spec.task,
    }
    out = io.BytesIO()
    pq.write_table(part.replace_schema_metadata(facts), out, row_group_size=max(1, rows // 4))
    return out.getvalue()


def _trace_job(store: LocalStore, job: Job, end_s: float, rows: int) -> None:
    hands = Hands(START_S)
    trace = JobTrace(
        PRODUCER,
        job=job.id,
        queue="default",
        trace_id=job.trace_id,
        span_id=job.span_id,
        submitted_ns=int(START_S * 1e9),
        clock=hands.clock,
    )
    for stage, seconds in (
        ("plan", 1.5),
        ("publish", 0.5),
        ("follow", end_s - START_S - 3),
        ("finish", 1),
    ):
        with trace(stage):
            hands.pass_s(seconds)
    trace.end("finished", rows=rows)
    trace.save(store)
