"""One message, handled in this process: a real Redis, a real folder, the fake task."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from headrace.coordination.attempts import read_attempts
from headrace.coordination.leases import (
    FORWARD,
    LeaseBook,
    Mark,
)
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.coordination.store_trouble import StoreTrouble, parse_trouble
from headrace.profiles.profile import Profile, merge
from headrace.profiles.store import read_job_profile, read_profile
from headrace.queue.celery_config import make_sender
from headrace.queue.redis_connection import celery_url, connect
from headrace.queue.redis_queue import RedisQueue
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from headrace.tracing.trace_file import read_spans
from schemas.errors import StorageError
from schemas.names import output_layout, redis_keys
from schemas.names import telemetry as names
from schemas.records.job import job_id
from schemas.records.manifest import Receipt
from schemas.records.message import ScoreChunk
from tests.fake_jobs import FakeJob, make_job
from workers.execution.fault_injection import CHUNK_STEPS
from workers.execution.handler import handle
from workers.execution.model_loader import ModelLoader
from workers.execution.presence import Identity
from workers.execution.runtime import Runtime

Steps = list[str]


@pytest.fixture
def runtime(redis_url: str, steps: Steps) -> Iterator[Runtime]:
    settings = load_settings(broker_url=redis_url, grace_s=5)
    client = connect(redis_url, name="test-worker")
    sender = make_sender(celery_url(redis_url))
    yield Runtime(settings, Identity("w1", "cpu", 1), client, Telemetry(), sender, steps.append)
    sender.close()
    client.close()


@pytest.fixture
def steps() -> Steps:
    """The named steps that were reached."""
    return []


@pytest.fixture
def job(tmp_path: Path, redis_client: redis.Redis) -> FakeJob:
    found = make_job(tmp_path, [f"text {i}" for i in range(300)], chunk_rows=100)
    redis_client.hset(redis_keys.job(found.job.key), "epoch", "test")  # as a controller leaves it
    return found


def body(job: FakeJob, *chunks: int, **changes: Any) -> dict[str, Any]:
    message = ScoreChunk(job=job.id, output=job.job.output, chunks=chunks, traceparent=None)
    return {**message.model_dump(mode="json"), **changes}


def parts(job: FakeJob) -> list[str]:
    return [info.name for info in job.store.list(output_layout.DATA)]


def left_in_redis(client: redis.Redis, job: FakeJob) -> list[str]:
    """Leases, marks and live counters: what only current work may have."""
    key = job.job.key
    found = [_text(k) for k in client.keys(f"{redis_keys.PREFIX}lease:*")]
    return found + [k for k in (redis_keys.marks(key), redis_keys.live(key)) if client.exists(k)]


# -- the good case


def test_a_run_of_chunks_becomes_parts_receipts_and_traces(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    handle(body(job, 0, 1, 2), runtime)
    job.check()
    for chunk in range(3):
        data = job.store.read(output_layout.receipt(chunk))
        assert data is not None
        receipt = Receipt.model_validate_json(data)
        assert (receipt.rows, receipt.ok, receipt.worker) == (100, 100, "w1")
        told = redis_client.hget(redis_keys.done(job.job.key), str(chunk))
        assert told is not None
        assert Receipt.model_validate_json(told) == receipt
    assert len(list(job.store.list(output_layout.TRACES))) == 3
    assert redis_client.hget(redis_keys.job(job.job.key), "done_rows") == b"300"
    assert left_in_redis(redis_client, job) == []
    assert os.listdir(Path(job.store.uri) / output_layout.TMP) == []


def test_each_chunk_gets_a_profile_which_the_part_can_make_again(
    job: FakeJob, runtime: Runtime
) -> None:
    handle(body(job, 0, 1, 2), runtime)
    written = [read_profile(job.store, job.job, chunk) for chunk in range(3)]
    for chunk, profile in enumerate(written):
        assert job.store.head(output_layout.profile(chunk)) is not None
        assert (profile.rows, profile.ok) == (100, 100)
        assert profile.texts is not None
        assert profile.texts.scripts == {"latin": 100}
        assert profile.token_counts is not None
        assert profile.token_counts.rows == 100
        counts = profile.token_counts
        assert sum(counts.first) + sum(counts.second) == profile.tokens
        job.store.delete(output_layout.profile(chunk))
    again = [read_profile(job.store, job.job, chunk) for chunk in range(3)]
    without_tokens = [p.model_copy(update={"token_counts": None}) for p in written]
    assert merge(again) == merge(without_tokens)
    assert read_job_profile(job.store, job.job) == merge(again)


def test_profiles_can_be_turned_off(job: FakeJob, runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"profiles": False})
    handle(body(job, 0), runtime)
    assert parts(job) == [output_layout.part(0)]
    assert list(job.store.list(output_layout.PROFILES)) == []


def test_a_store_that_takes_no_profile_costs_the_profile_alone(
    job: FakeJob, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Profile) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Profile, "to_bytes", full)
    handle(body(job, 0, 1, 2), runtime)
    job.check()


def test_a_worker_reports_its_chunks_before_it_starts(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    """Who is busy is counted once a second: a message shorter than that must not look like rest."""
    seen: dict[str, list[LiveWorker]] = {}

    def look(step: str) -> None:
        seen[step] = list(read_workers(redis_client, time.time()))

    runtime.fault = look
    handle(body(job, 0, 2), runtime)
    (busy,) = seen["leased"]
    assert (busy.job, busy.chunks) == (job.job.key, (0, 2))
    assert (busy.model, busy.progress_s) == ("", None), "nothing is loaded before the first message"
    (after,) = read_workers(redis_client, time.time())
    assert not after.is_busy
    assert after.model == "fake none@none float32"
    assert after.progress_s is not None
    assert after.progress_s <= after.seen_s


def test_the_steps_have_their_names_and_their_order(
    job: FakeJob, runtime: Runtime, steps: Steps
) -> None:
    handle(body(job, 0), runtime)
    assert steps == [step for step in CHUNK_STEPS if step != "dropped"]


# -- messages that come twice, or are none


def test_a_chunk_that_has_a_part_is_dropped_before_it_is_read(
    job: FakeJob, runtime: Runtime, steps: Steps
) -> None:
    handle(body(job, 0), runtime)
    before = job.store.read(output_layout.part(0))
    steps.clear()
    handle(body(job, 0), runtime)
    assert job.store.read(output_layout.part(0)) == before
    assert "read" not in steps


def test_a_chunk_that_another_holds_is_dropped_and_stays_theirs(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(1, Mark("theirs", "w2"))
    handle(body(job, 0, 1, 2), runtime)
    assert parts(job) == [output_layout.part(0), output_layout.part(2)]
    assert book.marks() == {1: Mark("theirs", "w2")}


FORGED: dict[str, Callable[[FakeJob], Any]] = {
    "no message": lambda job: "rm -rf /",
    "another version": lambda job: body(job, 0, v=2),
    "no such chunk": lambda job: body(job, 3),
    "another job": lambda job: body(job, 0) | {"job": "f" * 16},
    "no such output": lambda job: body(job, 0, output=job.job.output + "-nowhere"),
    "an output that is no place": lambda job: body(job, 0, output="ftp://host/x"),
    "too many chunks": lambda job: body(job, *[0]) | {"chunks": list(range(9))},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_message_is_put_aside_and_counted_and_never_executed(
    what: str, job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    handle(FORGED[what](job), runtime)
    assert redis_client.llen(redis_keys.REJECTED) == 1
    assert json.loads(redis_client.lindex(redis_keys.REJECTED, 0) or b"")["why"]
    assert redis_client.ttl(redis_keys.REJECTED) > 0
    assert parts(job) == []
    assert left_in_redis(redis_client, job) == []


def test_a_forged_message_writes_nothing_anywhere(
    job: FakeJob, runtime: Runtime, tmp_path: Path
) -> None:
    handle(body(job, 0, output=str(tmp_path / "elsewhere")), runtime)
    assert not (tmp_path / "elsewhere").exists()


def test_an_output_outside_the_allowed_prefixes_is_put_aside(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"allowed_prefixes": ("/nowhere",)})
    handle(body(job, 0), runtime)
    assert redis_client.llen(redis_keys.REJECTED) == 1
    assert parts(job) == []


# -- stopped, by whomever


@pytest.mark.parametrize("flag", [output_layout.CANCELLED, output_layout.PAUSED])
def test_a_job_that_was_stopped_while_we_were_down_is_not_begun(
    flag: str, job: FakeJob, runtime: Runtime, redis_client: redis.Redis, steps: Steps
) -> None:
    job.store.create(flag, b"{}")
    handle(body(job, 0, 1), runtime)
    assert "leased" not in steps
    assert (parts(job), left_in_redis(redis_client, job)) == ([], [])


def test_a_drain_gives_back_what_it_cannot_finish_lease_first(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    runtime.drain.ask(0.0)
    handle(body(job, 0, 1, 2), runtime)
    assert parts(job) == []
    assert left_in_redis(redis_client, job) == []
    view = RedisQueue(redis_client, None).read("default")
    assert view.chunks == {(job.job.key, 0), (job.job.key, 1), (job.job.key, 2)}
    assert [read_attempts(job.store, c) for c in range(3)] == [[], [], []]


def test_a_drain_in_the_middle_finishes_what_fits_and_gives_back_the_rest(
    tmp_path: Path, runtime: Runtime, redis_client: redis.Redis
) -> None:
    job = make_job(
        tmp_path,
        [f"a text of some length {i}" for i in range(400)],
        chunk_rows=200,
        params={"ms_per_row": 1},
        batch_tokens=500,
    )

    def drain_once_begun(step: str) -> None:
        if step == "tokenized":
            runtime.drain.ask(20.0)

    runtime.fault = drain_once_begun
    handle(body(job, 0, 1), runtime)
    done = {output_layout.chunk_of_part(name) for name in parts(job)}
    back = {chunk for _, chunk in RedisQueue(redis_client, None).read("default").chunks}
    assert done | back == {0, 1}
    assert not done & back
    assert left_in_redis(redis_client, job) == []


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


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key


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
