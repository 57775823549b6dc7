"""The controller against a real Redis; workers are played by `handle` in this process."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from producers.controller import Controller
from producers.queue_view import message_in, read_queue
from producers.receipts import parts_of, read_receipts
from producers.snapshot import take_snapshot
from producers.window import MIN_MESSAGES, window_size
from schemas import keys, layout
from schemas.attempts import read_attempts, record_attempt
from schemas.broker import celery_url, connect
from schemas.celery_config import make_sender, send
from schemas.embedded_redis import EmbeddedRedis
from schemas.leases import FORWARD, READING, LeaseBook, Mark
from schemas.live_counts import count_in
from schemas.manifest import Attempt, Parked
from schemas.message import ScoreChunk
from schemas.model_name import speed_field
from schemas.settings import load_settings
from schemas.telemetry import names
from schemas.telemetry.provider import Telemetry
from schemas.telemetry.trace_file import SpanRow, read_spans
from tests.fake_jobs import FakeJob, make_job
from workers.handler import handle
from workers.presence import sign_presence
from workers.runtime import Identity, Runtime

Wait = Callable[..., Any]
QUEUE = keys.QUEUE_PREFIX + "default"


class Kept(Telemetry):
    """Spans as they were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[SpanRow] = []

    def emit(self, rows: Sequence[SpanRow]) -> None:
        self.spans.extend(rows)


class House:
    """A controller and a worker on one Redis."""

    def __init__(self, url: str) -> None:
        self.client = connect(url, name="test")
        self.sender = make_sender(celery_url(url))
        self.controller = self.another_controller()
        identity = Identity("w1", "cpu", 1)
        settings = load_settings(broker_url=url)
        self.runtime = Runtime(settings, identity, self.client, Telemetry(), self.sender)

    def another_controller(self) -> Controller:
        return Controller(self.client, self.sender)

    def follow(self, job: FakeJob) -> None:
        self.controller.add(job.job, job.store)
        self.controller.tick()

    def receive(self) -> ScoreChunk | None:
        """The next message, as a worker takes it."""
        raw: Any = self.client.rpop(QUEUE)
        return None if raw is None else message_in(raw)

    def tick(self) -> bool:
        """False, so that `tick() or condition` reads as it runs."""
        self.controller.tick()
        return False

    def work(self, messages: int = 10_000) -> int:
        """Carry out what stands in the queue; the number of messages."""
        for done in range(messages):
            message = self.receive()
            if message is None:
                return done
            handle(message.model_dump(mode="json"), self.runtime)
        return messages

    def until_ended(self, job: FakeJob) -> Callable[[], bool]:
        def step() -> bool:
            self.controller.tick()
            self.work()
            return job.job.key in self.controller.ended

        return step

    def queued(self, job: FakeJob) -> set[int]:
        return {c for key, c in read_queue(self.client, "default").chunks if key == job.job.key}

    def close(self) -> None:
        self.controller.close()
        self.sender.close()
        self.client.close()


@pytest.fixture
def house(redis_url: str) -> Iterator[House]:
    found = House(redis_url)
    yield found
    found.close()


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return make_job(tmp_path, [f"text {i}" for i in range(200)], chunk_rows=10)


def keys_of(client: redis.Redis, job: FakeJob) -> list[str]:
    """Everything in Redis that names the job."""
    found = [_text(k) for k in client.keys("*")]
    return [k for k in found if job.job.key in k or job.id in k]


# -- the good case


def test_a_job_ends_with_its_manifest_and_leaves_no_key_behind(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    wait_until(house.until_ended(job))
    job.check()
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.totals.parts, manifest.totals.ok) == ("finished", 20, 200)
    assert job.store.read(layout.SUCCESS) is not None
    assert keys_of(house.client, job) == []
    assert house.client.hgetall(keys.JOBS) == {}
    assert house.client.llen(QUEUE) == 0


def test_the_window_is_bounded_and_topped_up(house: House, tmp_path: Path) -> None:
    job = make_job(tmp_path, ["x"] * 1_000, chunk_rows=1)
    house.follow(job)
    assert house.client.llen(QUEUE) == MIN_MESSAGES
    house.controller.tick()
    assert house.client.llen(QUEUE) == MIN_MESSAGES
    house.work(10)
    house.controller.tick()
    assert house.client.llen(QUEUE) == MIN_MESSAGES


def test_a_message_is_small_and_holds_no_text(house: House, tmp_path: Path) -> None:
    job = make_job(tmp_path, ["the text of a row"] * 10, chunk_rows=5)
    house.follow(job)
    for raw in house.client.lrange(QUEUE, 0, -1):
        assert len(raw) < 2_048
        assert b"text of a row" not in raw


def test_the_higher_priority_is_in_the_queue_first(house: House, tmp_path: Path) -> None:
    low = make_job(tmp_path / "low", ["x"] * 500, chunk_rows=1)
    high = make_job(tmp_path / "high", ["x"] * 20, chunk_rows=1, priority=5)
    house.controller.add(low.job, low.store)
    house.follow(high)
    assert house.queued(high) == set(range(20))


def test_an_urgent_job_passes_what_waits_already(house: House, tmp_path: Path) -> None:
    night = make_job(tmp_path / "night", ["x"] * 500, chunk_rows=1)
    urgent = make_job(tmp_path / "urgent", ["x"] * 3, chunk_rows=1, priority=5)
    house.follow(night)
    house.follow(urgent)
    first = [house.receive() for _ in range(4)]
    assert [m.job for m in first if m] == [urgent.id] * 3 + [night.id]
    house.controller.tick()
    assert house.client.llen(QUEUE) == MIN_MESSAGES


def test_a_small_job_among_equals_gets_its_share_at_once(house: House, tmp_path: Path) -> None:
    night = make_job(tmp_path / "night", ["x"] * 500, chunk_rows=1)
    small = make_job(tmp_path / "small", ["x"] * 3, chunk_rows=1, params={"ms_per_row": 0.001})
    house.follow(night)
    house.follow(small)
    first = [house.receive() for _ in range(7)]
    assert sum(m.job == small.id for m in first if m) == 3


def test_an_urgent_job_passes_what_another_controller_sent(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    night = make_job(tmp_path / "night", ["x"] * 1_000, chunk_rows=1)
    urgent = make_job(tmp_path / "urgent", ["x"] * 20, chunk_rows=1, priority=5)
    house.follow(night)
    assert len(house.queued(night)) > MIN_MESSAGES
    second = house.another_controller()
    try:
        second.add(urgent.job, urgent.store)

        def both_tick() -> bool:
            house.tick()
            second.tick()
            return bool(house.queued(night)) and len(house.queued(urgent)) == 20

        wait_until(lambda: both_tick() or len(house.queued(urgent)) == 20, 10, "room for it")
        wait_until(both_tick, 10, "the rest of the window to be the night's")
        assert read_queue(house.client, "default").messages <= MIN_MESSAGES
        first = house.receive()
        assert first is not None
        assert first.key == urgent.job.key
    finally:
        second.close()


def test_equals_of_two_controllers_share_the_window(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    jobs = [make_job(tmp_path / n, ["x"] * 2_000, chunk_rows=1) for n in "ab"]
    house.follow(jobs[0])
    second = house.another_controller()
    try:
        second.add(jobs[1].job, jobs[1].store)

        def even() -> bool:
            house.tick()
            second.tick()
            a, b = (len(house.queued(job)) for job in jobs)
            return 0.5 < (a + 1) / (b + 1) < 2

        wait_until(even, 10, "both to have a like share")
    finally:
        second.close()


def test_a_job_that_its_controller_lets_rest_does_not_hold_the_others(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    night = make_job(tmp_path / "night", ["x"] * 100, chunk_rows=1)
    urgent = make_job(tmp_path / "urgent", ["x"] * 20, chunk_rows=1, priority=5)
    second = house.another_controller()
    try:
        second.add(urgent.job, urgent.store)
        second._known[urgent.job.key] = (urgent.job, urgent.store)
        second.tick()
        second._rest_until_s[urgent.job.key] = time.monotonic() + 60
        wait_until(lambda: second.tick() or second._teller.facts[urgent.job.key].ready == 0, 10)
        house.client.delete(QUEUE)
        house.follow(night)
        assert len(house.queued(night)) == 100
    finally:
        second.close()


def test_two_models_on_one_queue_are_not_loaded_anew_for_each_message(
    house: House, tmp_path: Path
) -> None:
    nights = [
        make_job(tmp_path / name, ["x"] * 800, chunk_rows=1, params={"model": name})
        for name in "ab"
    ]
    # ten loads of 0.8 s are 8 s, which are 80 chunks of 0.1 s in messages of eight
    house.client.hset(keys.LOADS, speed_field(nights[0].job), 0.8)
    house.client.hset(keys.SPEEDS, speed_field(nights[0].job), 50.0)
    for night in nights:
        house.controller.add(night.job, night.store)
    house.controller.tick()
    found = [message_in(raw) for raw in reversed(house.client.lrange(QUEUE, 0, -1))]
    names = [m.key for m in found if m is not None]
    changes = sum(a != b for a, b in itertools.pairwise(names))
    assert set(names) == {n.job.key for n in nights}
    assert (len(names), changes) == (MIN_MESSAGES, 6)


def test_the_window_counts_the_workers_of_its_own_queue(house: House, tmp_path: Path) -> None:
    facts = {"device": "cpu", "queue": "elsewhere"}
    for n in range(40):
        sign_presence(house.client, f"other-{n}", facts)
    for n in range(20):
        sign_presence(house.client, f"own-{n}", {**facts, "queue": "default"})
    house.follow(make_job(tmp_path, ["x"] * 1_000, chunk_rows=1))
    assert house.client.llen(QUEUE) == window_size(20)


def test_what_a_dead_worker_never_acknowledged_is_gone_with_its_job(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    raw: Any = house.client.rpop(QUEUE)  # as kombu keeps it: [message, exchange, routing key]
    taken = json.dumps([json.loads(raw), "", "default"])
    house.client.hset(f"{keys.QUEUE_PREFIX}unacked", "tag", taken)
    house.client.zadd(f"{keys.QUEUE_PREFIX}unacked_index", {"tag": time.time() - 60})
    house.client.hset(f"{keys.QUEUE_PREFIX}unacked", "other", "[1, 2")
    wait_until(house.until_ended(job))
    job.check()
    assert house.client.hkeys(f"{keys.QUEUE_PREFIX}unacked") == [b"other"]
    assert house.client.zcard(f"{keys.QUEUE_PREFIX}unacked_index") == 0


def test_a_message_on_its_way_to_a_worker_is_not_sent_again(house: House, job: FakeJob) -> None:
    house.follow(job)
    raw: Any = house.client.rpop(QUEUE)
    message = message_in(raw)
    assert message is not None
    taken = json.dumps([json.loads(raw), "", "default"])
    house.client.hset(f"{keys.QUEUE_PREFIX}unacked", "tag", taken)
    house.client.zadd(f"{keys.QUEUE_PREFIX}unacked_index", {"tag": time.time()})
    assert {c for _, c in read_queue(house.client, "default").chunks} == set(range(20))
    later = read_queue(house.client, "default", time.time() + 16)
    assert {c for _, c in later.chunks} == set(range(20)) - set(message.chunks)


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
    done = len(list(job.store.list(layout.DATA)))
    assert 0 < done < 20
    house.client.flushall()
    house.controller.tick()
    assert len(house.queued(job)) == 20 - done
    assert house.client.hget(keys.job(job.job.key), "done_rows") == str(10 * done).encode()
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
        done = len(list(job.store.list(layout.DATA)))
        return done, 10 * done, {"null_text": done}

    assert shown() == parts()
    house.client.delete(keys.lock(job.job.key))
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
    epoch = house.client.hget(keys.job(job.job.key), "epoch")
    house.client.hdel(keys.job(job.job.key), "epoch")
    house.work(1)
    house.client.hset(keys.job(job.job.key), "epoch", epoch)
    house.client.delete(keys.lock(job.job.key))
    third = house.another_controller()
    third.add(job.job, job.store)
    third.tick()
    assert shown() == parts(), "a worker that died before it could tell"
    for controller in (successor, third):
        controller.close()


def test_a_chunk_in_hand_is_not_sent_again_and_a_dead_one_is_at_once(
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
    redis_client.delete(keys.lease(job.job.key, held))
    house.controller.tick()
    assert house.queued(job) == set(range(20)) - set(others)
    (attempt,) = read_attempts(job.store, held)
    assert (attempt.cause, attempt.rows, attempt.seen_by) == (
        "worker_lost",
        (1, 2),
        house.controller.name,
    )
    (lost,) = read_spans(job.store.read(layout.trace(held, f"a{held}")) or b"")
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
    kept = [i.name for i in job.store.list(layout.TRACES) if "/job-" in i.name]
    found = [s for name in kept for s in read_spans(job.store.read(name) or b"")]
    assert {s.span_id for s in found} == {s.span_id for s in sent}


def test_a_controller_keeps_no_spans_where_none_are_wanted(
    house: House, job: FakeJob, redis_client: redis.Redis, wait_until: Wait
) -> None:
    house.controller.keep_traces = False
    house.runtime.settings = house.runtime.settings.model_copy(update={"traces": False})
    house.follow(job)
    message = house.receive()
    assert message is not None
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(message.chunks[0], Mark("dead", "w2", FORWARD, rows=(1,)))
    redis_client.delete(keys.lease(job.job.key, message.chunks[0]))
    house.controller.tick()
    assert len(read_attempts(job.store, message.chunks[0])) == 1
    wait_until(house.until_ended(job))
    assert list(job.store.list(layout.TRACES)) == []


def test_a_death_whose_part_stands_is_no_attempt(
    house: House, job: FakeJob, redis_client: redis.Redis
) -> None:
    house.follow(job)
    message = house.receive()
    assert message is not None
    handle(message.model_dump(mode="json"), house.runtime)
    chunk = message.chunks[0]
    dead = Mark("dead", "w2", FORWARD, rows=(1,))
    redis_client.hset(keys.marks(job.job.key), str(chunk), dead.dumps())
    house.controller.tick()
    assert read_attempts(job.store, chunk) == []
    assert LeaseBook(redis_client, job.job.key, 1).marks() == {}


def test_a_commit_that_redis_never_heard_of_is_found_in_the_store(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    for key in (keys.done(job.job.key), keys.marks(job.job.key)):
        house.client.delete(key)
    wait_until(lambda: house.tick() or job.job.key in house.controller.ended, 10)
    job.check()
    assert house.work() == 0


def test_a_missing_receipt_is_made_again_from_the_part(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    job.store.delete(layout.receipt(3))
    house.client.hdel(keys.done(job.job.key), "3")
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    assert manifest.totals.rows == 200
    assert job.store.read(layout.receipt(3)) is not None


def test_redis_keeps_no_receipt_that_the_controller_has(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work(4)
    told = house.client.hlen(keys.done(job.job.key))
    assert told >= 4
    house.controller.tick()
    assert house.client.hlen(keys.done(job.job.key)) == 0
    for info in list(job.store.list(layout.RECEIPTS)):
        job.store.delete(info.name)  # the controller has them in hand
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.totals.rows, manifest.totals.computed) == (200, 200)
    assert len(list(job.store.list(layout.RECEIPTS))) == job.job.chunks - told


def test_a_part_that_vanished_before_the_end_is_computed_again_and_counted_once(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work()
    house.controller.following[job.job.key].tick(read_queue(house.client, "default"))
    job.store.delete(layout.part(7))
    house.controller.tick()
    done = house.client.hmget(keys.job(job.job.key), "done_chunks", "done_rows")
    assert done == [b"19", b"190"]
    wait_until(house.until_ended(job))
    job.check()
    manifest = job.manifest()
    part = next(p for p in manifest.parts if p.chunk == 7) if manifest else None
    data = job.store.read(layout.part(7))
    assert part is not None
    assert data is not None
    assert part.sha256 == hashlib.sha256(data).hexdigest()


# -- who reconciles


def test_one_controller_at_a_time_and_another_takes_over(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    second = house.another_controller()
    second.add(job.job, job.store)
    second.tick()
    assert (list(house.controller.following), list(second.following)) == ([job.job.key], [])
    house.controller.close()
    second.tick()
    assert list(second.following) == [job.job.key]
    house.controller, first = second, house.controller
    first.tick()
    assert first.following == {}
    wait_until(house.until_ended(job))
    job.check()


def test_a_lock_that_redis_forgot_is_taken_again(house: House, job: FakeJob) -> None:
    house.follow(job)
    house.client.delete(keys.lock(job.job.key))
    house.controller.tick()
    assert house.client.get(keys.lock(job.job.key)) == house.controller.name.encode()


def test_a_controller_that_lost_its_lock_leaves_the_job_alone(house: House, job: FakeJob) -> None:
    house.follow(job)
    house.client.set(keys.lock(job.job.key), "another")
    house.client.delete(QUEUE)
    house.controller.tick()
    assert house.controller.following == {}
    assert house.client.llen(QUEUE) == 0


def test_redis_away_is_waited_for(job: FakeJob, tmp_path: Path, wait_until: Wait) -> None:
    with EmbeddedRedis(tmp_path / "own") as server:
        house = House(server.url)
        house.follow(job)
        server.kill()
        house.controller.tick()
        server.start()
        wait_until(house.until_ended(job))
        house.close()
    job.check()


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
    data = job.store.read(layout.parked(1))
    assert data is not None
    parked = Parked.model_validate_json(data)
    assert (parked.cause, parked.message, parked.attempts) == ("storage_error", "503", 4)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.totals.parts) == ("failed", 2)
    assert "1 chunk parked" in manifest.reason
    assert job.store.head(layout.SUCCESS) is None
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
        redis_client.delete(keys.lease(job.job.key, chunk))
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


# -- cancel and pause


def test_a_cancelled_job_ends_and_its_messages_leave_the_queue(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work(2)
    job.store.create(layout.CANCELLED, b'{"reason": "by hand"}')
    wait_until(lambda: house.tick() or job.manifest(), 15)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.reason) == ("cancelled", "by hand")
    assert house.client.llen(QUEUE) == 0
    assert keys_of(house.client, job) == []


def test_a_cancelled_job_stays_cancelled_when_redis_forgets(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    job.store.create(layout.CANCELLED, b'{"reason": "by hand"}')
    house.follow(job)
    house.client.flushall()
    wait_until(lambda: house.tick() or job.manifest(), 15)
    assert list(job.store.list(layout.DATA)) == []


def test_a_cancelled_job_waits_for_what_is_on_a_device(
    house: House, job: FakeJob, redis_client: redis.Redis
) -> None:
    house.follow(job)
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(0, Mark("a", "w"))
    job.store.create(layout.CANCELLED, b'{"reason": "x"}')
    house.controller.following[job.job.key].read_flags()
    house.controller.tick()
    assert job.manifest() is None
    book.release(0, "a")
    house.controller.tick()
    assert job.manifest() is not None


def test_a_paused_job_sends_nothing_until_it_is_resumed(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    job.store.create(layout.PAUSED, b"{}")
    house.follow(job)
    assert house.client.llen(QUEUE) == 0
    assert house.client.hget(keys.job(job.job.key), "paused") == b"1"
    job.store.delete(layout.PAUSED)
    wait_until(house.until_ended(job))
    job.check()


# -- neighbours


def test_what_others_put_into_the_queue_is_left_alone(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.client.lpush(QUEUE, b"not ours", b"{}")
    foreign = ScoreChunk(job="f" * 16, output="/else", chunks=(0,), traceparent=None)
    send(house.sender, foreign, "default")
    house.follow(job)
    wait_until(lambda: house.tick() or job.store.read(layout.SUCCESS) or step(house), 30)
    job.check()


def step(house: House) -> bool:
    """Some work; messages of others are taken and dropped, as a worker does."""
    house.work(5)
    return False


def _text(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key


# -- what is wrong with one job is not wrong with the others


def test_a_job_whose_records_are_damaged_holds_no_other(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    bad, worse, good = (make_job(tmp_path / n, ["x"] * 40, chunk_rows=10) for n in "abc")
    bad.store.replace(layout.PLAN, b"PAR1 and no plan")
    worse.store.create(layout.parked(1), b'{"chunk": ')
    worse.store.create(layout.attempt(2, 1), b"\xff no record")
    worse.store.create(layout.attempt(3, 7), b"[]")
    for job in (bad, worse, good):
        house.controller.add(job.job, job.store)
    wait_until(house.until_ended(good))
    good.check()
    wait_until(house.until_ended(worse))
    manifest = worse.manifest()
    assert manifest is not None
    assert manifest.state == "failed"
    assert [(p.chunk, p.cause) for p in manifest.parked] == [(1, "unreadable_record")]
    assert bad.job.key not in house.controller.ended


def test_an_end_that_the_store_does_not_take_is_tried_again(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    folder = Path(job.store.uri) / layout.MANIFEST
    folder.mkdir()  # no file can take that name
    house.follow(job)
    house.work()
    for _ in range(3):
        house.controller._rest_until_s.clear()
        house.tick()
    assert job.job.key in house.controller.following
    folder.rmdir()
    wait_until(house.until_ended(job))
    job.check()
