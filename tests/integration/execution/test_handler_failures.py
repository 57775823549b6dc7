"""A message whose chunks fail, or that meets a store, a Redis or a device that does."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from headrace.coordination.attempts import attempt_of_death, read_attempts
from headrace.coordination.leases import (
    FORWARD,
    HANGING,
    LOADING,
    LeaseBook,
    Mark,
)
from headrace.coordination.store_trouble import StoreTrouble, parse_trouble
from headrace.queue.redis_connection import connect
from headrace.queue.redis_queue import RedisQueue
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.store import Store
from headrace.tracing.trace_file import read_spans
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.names import telemetry as names
from schemas.records.job import job_id
from tests.fake_jobs import FakeJob, make_job
from tests.integration.execution.one_message import body, left_in_redis, parts
from workers.execution.handler import handle
from workers.execution.model_loader import ModelLoader
from workers.execution.runtime import Runtime

# -- attempts


def test_an_unrecorded_crash_is_recorded_by_the_next_worker(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    dead = Mark(
        "dead", "w9", FORWARD, rows=(3, 4), since_s=9.0, limit_s=0.0, begun_s=5.0, trace_id="e" * 32
    )
    redis_client.hset(redis_keys.marks(job.job.key), "0", dead.dumps())
    handle(body(job, 0), runtime)
    (attempt,) = read_attempts(job.store, 0)
    assert (attempt.cause, attempt.rows, attempt.worker) == ("worker_lost", (3, 4), "w9")
    assert parts(job) == [output_layout.part(0)]
    (lost,) = read_spans(job.store.read(output_layout.trace(0, "dead")) or b"")
    assert (lost.trace_id, lost.start_time_unix_nano, lost.status_code) == (
        "e" * 32, 5_000_000_000, "ERROR",
    )  # fmt: skip
    told = {
        names.OUTCOME: "worker_lost",
        names.ERROR_TYPE: "worker_lost",
        names.WORKER: "w9",
        names.LAST_STAGE: "forward",
        names.SEEN_BY: "w1",
        "headrace.suspect_rows": 2,
        names.ATTEMPT_NUMBER: 1,
    }
    assert told.items() <= lost.attributes.items()


def test_a_changed_input_is_an_attempt_that_no_retry_can_help(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    pq.write_table(pa.table({"text": ["other"] * 300}), job.input)
    handle(body(job, 0, 1), runtime)
    for chunk in (0, 1):
        (attempt,) = read_attempts(job.store, chunk)
        assert (attempt.cause, attempt.retryable) == ("input_changed", False)
    assert (parts(job), left_in_redis(redis_client, job)) == ([], [])


class PartsRefused(LocalStore):
    """Takes everything but parts, as a bucket with a policy would."""

    def create_from_file(self, name: str, path: Path) -> bool:
        if name.startswith(output_layout.DATA):
            raise StorageError("503, six times")
        return super().create_from_file(name, path)


class RefusedRuntime(Runtime):
    """A runtime whose output store takes no parts."""

    def open_store(self, uri: str) -> Store:
        store = super().open_store(uri)
        return PartsRefused(uri) if store.head(output_layout.JOB) else store


def test_a_store_that_fails_counts_in_no_attempt_and_the_next_try_succeeds(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    refused = RefusedRuntime(
        runtime.settings, runtime.identity, runtime.client, runtime.telemetry, runtime.sender
    )
    handle(body(job, 0, 1), refused)
    assert [read_attempts(job.store, chunk) for chunk in (0, 1)] == [[], []]
    trouble = parse_trouble(redis_client.hget(redis_keys.job(job.job.key), "trouble"), time.time())
    assert trouble == StoreTrouble("storage_error", "503, six times")
    assert refused.brake.store_is_away
    assert (parts(job), left_in_redis(redis_client, job)) == ([], [])
    assert os.listdir(Path(job.store.uri) / output_layout.TMP) == []
    handle(body(job, 0, 1, 2), runtime)
    job.check()


def test_a_model_that_cannot_be_loaded_is_an_attempt_for_every_held_chunk(
    tmp_path: Path, runtime: Runtime, redis_client: redis.Redis
) -> None:
    job = make_job(tmp_path, ["a"] * 200, params={"ms_per_row": "many"})
    handle(body(job, 0, 1), runtime)
    assert [len(read_attempts(job.store, c)) for c in (0, 1)] == [1, 1]
    assert left_in_redis(redis_client, job) == []


def test_a_precision_that_the_device_lacks_is_left_to_other_workers(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    spec = job.job.spec.model_copy(update={"task": "text-classification", "dtype": "float16"})
    wants = replace(job, job=job.job.model_copy(update={"spec": spec, "id": job_id(spec)}))
    (Path(job.store.uri) / output_layout.JOB).write_text(wants.job.model_dump_json())
    handle(body(wants, 0, 1), runtime)
    assert [read_attempts(job.store, c) for c in (0, 1)] == [[], []]
    why = redis_client.hget(redis_keys.job(wants.job.key), "refused_why")
    assert b"float16, which cpu does not serve" in why


def test_rows_that_fail_do_not_fail_their_chunk(tmp_path: Path, runtime: Runtime) -> None:
    texts: list[Any] = [f"text {i}" for i in range(100)]
    texts[3], texts[4], texts[5] = None, b"\xff\xfe", "x __raise__"
    job = make_job(tmp_path, texts)
    handle(body(job, 0), runtime)
    rows = job.check({3: "null_text", 4: "invalid_text", 5: "fake_fault"})
    assert all(len(rows[r]["trace_id"]) == 32 for r in (3, 4, 5))


# -- without Redis


def test_with_redis_away_the_chunk_is_computed_all_the_same(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis, tmp_path: Path
) -> None:
    gone = connect(f"redis+socket://{tmp_path}/nobody", name="nobody")
    away = Runtime(runtime.settings, runtime.identity, gone, runtime.telemetry, runtime.sender)
    handle(body(job, 0, 1, 2), away)
    job.check()


def test_a_lease_lost_to_another_stops_that_chunk_and_goes_on_with_the_next(
    tmp_path: Path, runtime: Runtime, redis_client: redis.Redis
) -> None:
    job = make_job(tmp_path, [f"text {i}" for i in range(200)], batch_tokens=50)

    def steal(step: str) -> None:
        if step == "tokenized" and redis_client.get(redis_keys.lease(job.job.key, 0)) != b"thief":
            redis_client.set(redis_keys.lease(job.job.key, 0), "thief")

    runtime.fault = steal
    handle(body(job, 0, 1), runtime)
    assert parts(job) == [output_layout.part(1)]
    assert redis_client.get(redis_keys.lease(job.job.key, 0)) == b"thief"
    assert read_attempts(job.store, 0) == []


# -- a device that computes nothing more


class Left(BaseException):
    """In place of the end of this process."""


def test_a_lost_device_ends_the_process_with_its_rows_marked_and_what_was_done_committed(
    tmp_path: Path, runtime: Runtime, redis_client: redis.Redis
) -> None:
    texts = [f"text {i}" for i in range(200)]
    texts[150] = "this one __lost__"
    job = make_job(tmp_path, texts, chunk_rows=100, params={"faults": True})
    held: dict[int, Mark] = {}

    def leave() -> NoReturn:
        held.update(LeaseBook(redis_client, job.job.key, 30).marks())
        raise Left

    runtime.exit_process = leave
    with pytest.raises(Left):
        handle(body(job, 0, 1), runtime)
    assert parts(job) == [output_layout.part(0)]
    assert read_attempts(job.store, 1) == [], "whoever sees the death records it"
    (mark,) = held.values()
    assert mark.stage == FORWARD
    assert 50 in mark.rows


def test_a_device_on_which_no_model_can_be_loaded_gives_its_chunks_to_others(
    job: FakeJob,
    runtime: Runtime,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_driver(self: ModelLoader, job: Any) -> Any:
        raise RuntimeError("the NVIDIA driver on your system is too old")

    ended: list[bool] = []
    runtime.end_worker = lambda: ended.append(True)
    monkeypatch.setattr(ModelLoader, "_load", no_driver)
    monkeypatch.setattr("workers.execution.handler.is_lost", lambda device: True)
    handle(body(job, 0, 1), runtime)
    assert ended == [True]
    assert parts(job) == []
    assert all(read_attempts(job.store, chunk) == [] for chunk in (0, 1)), "no chunk is at fault"
    assert left_in_redis(redis_client, job) == []
    assert RedisQueue(redis_client, None).read("default").chunks == {
        (job.job.key, 0),
        (job.job.key, 1),
    }
    told = json.loads(redis_client.hget(redis_keys.job(job.job.key), "trouble") or b"{}")
    assert (told["cause"], "too old" in told["why"]) == ("device_lost", True)


# -- a mounted folder that hangs


def test_a_model_that_never_loads_gives_the_chunks_to_another_worker(
    job: FakeJob,
    runtime: Runtime,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    alive: list[set[int]] = []
    crashes: list[Any] = []
    real = ModelLoader._load

    def hang(self: ModelLoader, job: Any) -> Any:
        answer.wait(30)
        return real(self, job)

    def leave() -> Any:
        book = LeaseBook(redis_client, job.job.key, 30)
        alive.append(book.look()[0])
        crashes.extend(
            attempt_of_death(chunk, mark, time.time(), "controller")
            for chunk, mark in book.marks().items()
        )
        answer.set()  # here the process would be gone; a test's thread cannot be

    monkeypatch.setattr(ModelLoader, "_load", hang)
    limits = load_settings(load_timeout_s=0.3, lease_s=1, broker_url=runtime.settings.broker_url)
    handle(body(job, 0, 1), replace(runtime, settings=limits, exit_process=leave))
    assert alive == [set()], "another worker may take them before this process has ended"
    (crash,) = crashes
    assert (crash.chunk, crash.cause, crash.stage, crash.rows) == (0, "timeout", LOADING, ())
    assert "the model was not loaded" in crash.message


def test_an_output_that_never_answers_gives_the_chunk_to_another_worker(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    answer = threading.Event()
    alive: list[set[int]] = []
    marks: list[Mark] = []

    def hang(step: str) -> None:
        if step == "uploaded":  # the part is written, and its name is not there yet
            answer.wait(30)

    def leave() -> Any:
        book = LeaseBook(redis_client, job.job.key, 30)
        alive.append(book.look()[0])
        marks.extend(book.marks().values())
        answer.set()  # here the process would be gone; a test's thread cannot be

    limits = load_settings(batch_timeout_s=0.3, lease_s=1, broker_url=runtime.settings.broker_url)
    handle(body(job, 0), replace(runtime, settings=limits, fault=hang, exit_process=leave))
    assert alive == [set()], "another worker may take it before this process has ended"
    (mark,) = marks
    assert (mark.stage, mark.rows, mark.worker) == (HANGING, (), "w1"), "no row is under suspicion"
