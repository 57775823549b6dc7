"""What the controller makes good, against a real Redis: lost messages, deaths, chunks that fail."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from headrace.coordination.attempts import read_attempts, record_attempt
from headrace.coordination.job_counters import count_in
from headrace.coordination.leases import (
    FORWARD,
    READING,
    LeaseBook,
    Mark,
)
from headrace.queue.kombu_layout import message_in
from headrace.queue.redis_queue import RedisQueue
from headrace.tracing.trace_file import read_spans
from producers.control.controller import Controller
from producers.records.manifest import parts_of, read_receipts
from producers.records.snapshot import take_snapshot
from schemas.names import output_layout, redis_keys
from schemas.names import telemetry as names
from schemas.records.manifest import Attempt, Parked
from tests.fake_jobs import FakeJob, make_job
from tests.integration.controller_house import QUEUE, House, Kept, keys_of
from workers.execution.handler import handle

Wait = Callable[..., Any]


# -- what went missing


def test_messages_that_vanished_are_sent_again(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.client.delete(QUEUE)
    began = time.monotonic()
    wait_until(lambda: house.tick() or house.queued(job) == set(range(20)), 10)
    assert time.monotonic() - began < 5
    wait_until(house.until_ended(job))
    job.check()


def test_redis_that_forgets_everything_in_mid_job_costs_nothing(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work(2)
    done = len(list(job.store.list(output_layout.DATA)))
    assert 0 < done < 20
    house.client.flushall()
    house.controller.tick()
    assert len(house.queued(job)) == 20 - done
    assert house.client.hget(redis_keys.job(job.job.key), "done_rows") == str(10 * done).encode()
    wait_until(house.until_ended(job))
    job.check()
    assert keys_of(house.client, job) == []


def test_what_is_shown_counts_each_part_once_over_restarts_losses_and_late_words(
    house: House, tmp_path: Path
) -> None:
    texts = [None if i % 10 == 0 else f"text {i}" for i in range(200)]
    job = make_job(tmp_path, texts, chunk_rows=10)
    house.follow(job)
    house.work(2)

    def shown() -> tuple[int, int, dict[str, int]]:
        told = take_snapshot(job.store, job.job, house.client)
        assert told.reason == ""
        return told.chunks_done, told.rows_done, dict(told.errors_by_type)

    def parts() -> tuple[int, int, dict[str, int]]:
        done = len(list(job.store.list(output_layout.DATA)))
        return done, 10 * done, {"null_text": done}

    assert shown() == parts()
    house.client.delete(redis_keys.lock(job.job.key))
    successor = house.another_controller()
    successor.add(job.job, job.store)
    successor.tick()
    assert shown() == parts(), "another controller took over"
    house.client.flushall()
    successor.tick()
    assert shown() == parts(), "Redis lost what it knew, classes of errors too"
    receipts = read_receipts(job.store, job.job, list(parts_of(job.store)))
    count_in(house.client, job.job.key, receipts)
    assert shown() == parts(), "workers tell late of what the controller found in the store"
    epoch = house.client.hget(redis_keys.job(job.job.key), "epoch")
    house.client.hdel(redis_keys.job(job.job.key), "epoch")
    house.work(1)
    house.client.hset(redis_keys.job(job.job.key), "epoch", epoch)
    house.client.delete(redis_keys.lock(job.job.key))
    third = house.another_controller()
    third.add(job.job, job.store)
    third.tick()
    assert shown() == parts(), "a worker that died before it could tell"
    for controller in (successor, third):
        controller.close()


def test_a_leased_chunk_is_not_sent_again_and_a_crashed_one_is_at_once(
    house: House, job: FakeJob, redis_client: redis.Redis, wait_until: Wait
) -> None:
    house.follow(job)
    message = house.receive()
    assert message is not None
    held, *others = message.chunks
    book = LeaseBook(redis_client, job.job.key, 30)
    for chunk in message.chunks:
        book.take(chunk, Mark(f"a{chunk}", "w2", FORWARD, rows=(1, 2)))
    began = time.monotonic()
    wait_until(lambda: house.tick() or time.monotonic() - began > 3, 10)
    assert house.queued(job) == set(range(20)) - set(message.chunks)
    redis_client.delete(redis_keys.lease(job.job.key, held))
    house.controller.tick()
    assert house.queued(job) == set(range(20)) - set(others)
    (attempt,) = read_attempts(job.store, held)
    assert (attempt.cause, attempt.rows, attempt.seen_by) == (
        "worker_lost",
        (1, 2),
        house.controller.name,
    )
    (lost,) = read_spans(job.store.read(output_layout.trace(held, f"a{held}")) or b"")
    assert lost.attributes[names.OUTCOME] == "worker_lost"
    assert lost.attributes[names.SEEN_BY] == house.controller.name


def test_a_controller_that_is_stopped_loses_no_span_and_its_successor_ends_the_trace(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    ids = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    job = replace(job, job=job.job.model_copy(update=ids))
    house.controller.emitter = first = Kept()
    house.follow(job)
    house.work(1)
    house.controller.close()
    assert [s.name for s in first.spans] == ["send default"]
    house.controller = house.another_controller()
    house.controller.emitter = second = Kept()
    house.follow(job)
    wait_until(house.until_ended(job))
    ends = Counter(s.name for s in second.spans)
    assert (ends["job"], ends["finish"]) == (1, 1)
    sent = [*first.spans, *second.spans]
    assert {s.trace_id for s in sent} == {ids["trace_id"]}
    kept = [i.name for i in job.store.list(output_layout.TRACES) if "/job-" in i.name]
    found = [s for name in kept for s in read_spans(job.store.read(name) or b"")]
    assert {s.span_id for s in found} == {s.span_id for s in sent}


def test_a_controller_keeps_no_spans_where_none_are_wanted(
    house: House, job: FakeJob, redis_client: redis.Redis, wait_until: Wait
) -> None:
    house.controller.close()
    house.controller = Controller(house.client, house.sender, keep_traces=False)
    house.runtime.settings = house.runtime.settings.model_copy(update={"traces": False})
    house.follow(job)
    message = house.receive()
    assert message is not None
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(message.chunks[0], Mark("dead", "w2", FORWARD, rows=(1,)))
    redis_client.delete(redis_keys.lease(job.job.key, message.chunks[0]))
    house.controller.tick()
    assert len(read_attempts(job.store, message.chunks[0])) == 1
    wait_until(house.until_ended(job))
    assert list(job.store.list(output_layout.TRACES)) == []


def test_a_crash_after_the_part_is_published_is_no_attempt(
    house: House, job: FakeJob, redis_client: redis.Redis
) -> None:
    house.follow(job)
    message = house.receive()
    assert message is not None
    handle(message.model_dump(mode="json"), house.runtime)
    chunk = message.chunks[0]
    dead = Mark("dead", "w2", FORWARD, rows=(1,))
    redis_client.hset(redis_keys.marks(job.job.key), str(chunk), dead.dumps())
    house.controller.tick()
    assert read_attempts(job.store, chunk) == []
    assert LeaseBook(redis_client, job.job.key, 1).marks() == {}


def test_a_commit_that_redis_never_heard_of_is_found_in_the_store(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    for key in (redis_keys.done(job.job.key), redis_keys.marks(job.job.key)):
        house.client.delete(key)
    wait_until(lambda: house.tick() or job.job.key in house.controller.ended, 10)
    job.check()
    assert house.work() == 0


def test_a_missing_receipt_is_made_again_from_the_part(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    job.store.delete(output_layout.receipt(3))
    house.client.hdel(redis_keys.done(job.job.key), "3")
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    assert manifest.totals.rows == 200
    assert job.store.read(output_layout.receipt(3)) is not None


def test_redis_keeps_no_receipt_that_the_controller_has(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work(4)
    told = house.client.hlen(redis_keys.done(job.job.key))
    assert told >= 4
    house.controller.tick()
    assert house.client.hlen(redis_keys.done(job.job.key)) == 0
    for info in list(job.store.list(output_layout.RECEIPTS)):
        job.store.delete(info.name)  # the controller tracks them
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.totals.rows, manifest.totals.computed) == (200, 200)
    assert len(list(job.store.list(output_layout.RECEIPTS))) == job.job.chunks - told


def test_a_part_that_vanished_before_the_end_is_computed_again_and_counted_once(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    house.controller.tracked[job.job.key].tick(RedisQueue(house.client, None).read("default"))
    job.store.delete(output_layout.part(7))
    house.controller.tick()
    done = house.client.hmget(redis_keys.job(job.job.key), "done_chunks", "done_rows")
    assert done == [b"19", b"190"]
    wait_until(house.until_ended(job))
    job.check()
    manifest = job.manifest()
    part = next(p for p in manifest.parts if p.chunk == 7) if manifest else None
    data = job.store.read(output_layout.part(7))
    assert part is not None
    assert data is not None
    assert part.sha256 == hashlib.sha256(data).hexdigest()


# -- chunks that fail


def fail(job: FakeJob, chunk: int, times: int, **more: Any) -> None:
    for n in range(times):
        attempt = {"chunk": chunk, "number": 0, "attempt": f"x{n}", "cause": "storage_error"}
        record_attempt(
            job.store, Attempt.model_validate({**attempt, "message": "503", "rows": (), **more})
        )


def take_away(house: House) -> None:
    """The worker that failed has dropped its message."""
    while house.receive() is not None:
        pass


def test_a_chunk_that_fails_again_and_again_is_parked_and_the_rest_is_done(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    job = make_job(tmp_path, [f"t{i}" for i in range(30)], chunk_rows=10)
    house.follow(job)
    take_away(house)
    fail(job, 1, 4)
    wait_until(house.until_ended(job))
    data = job.store.read(output_layout.parked(1))
    assert data is not None
    parked = Parked.model_validate_json(data)
    assert (parked.cause, parked.message, parked.attempts) == ("storage_error", "503", 4)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.totals.parts) == ("failed", 2)
    assert "1 chunk parked" in manifest.reason
    assert job.store.head(output_layout.SUCCESS) is None
    assert keys_of(house.client, job) == []


def test_a_failure_waits_before_it_is_tried_again(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    job = make_job(tmp_path, ["a"] * 10, chunk_rows=10)
    house.follow(job)
    take_away(house)
    fail(job, 0, 2)
    gone = time.monotonic()
    wait_until(lambda: house.tick() or house.queued(job) == {0}, 15)
    assert 2 + 1 <= time.monotonic() - gone < 2 + 2 + 2  # the grace, then 1 to 2 seconds


def test_a_chunk_that_died_goes_in_a_message_of_its_own(
    house: House, tmp_path: Path, redis_client: redis.Redis
) -> None:
    job = make_job(tmp_path, ["x"] * 400, chunk_rows=1)
    house.follow(job)
    message = house.receive()
    assert message is not None
    assert len(message.chunks) == 8
    book = LeaseBook(redis_client, job.job.key, 30)
    first, second = message.chunks[:2]
    book.take(first, Mark("a", "w", FORWARD, rows=(0,)))
    book.take(second, Mark("b", "w", READING))
    for chunk in (first, second):
        redis_client.delete(redis_keys.lease(job.job.key, chunk))
    house.controller.tick()
    runs = [m.chunks for m in map(message_in, redis_client.lrange(QUEUE, 0, -1)) if m]
    assert (first,) in runs
    assert (second,) in runs


def test_a_changed_input_fails_the_job_and_no_chunk_is_begun_any_more(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    take_away(house)
    fail(job, 0, 1, cause="input_changed", message="corpus.parquet changed", retryable=False)
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.reason) == ("failed", "corpus.parquet changed")


def test_too_many_error_rows_stop_the_job_early(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    job = make_job(tmp_path, [None] * 2_000, chunk_rows=5, error_threshold=0.05)
    house.follow(job)
    wait_until(lambda: (house.work(5) and house.tick()) or job.manifest(), 30)
    manifest = job.manifest()
    assert manifest is not None
    assert manifest.state == "failed"
    assert "5.00%" in manifest.reason
    assert manifest.totals.parts < 400
