"""The controller against a real Redis; workers are played by `handle` in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from headrace.coordination.leases import LeaseBook, Mark
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.kombu_layout import message_in
from headrace.queue.open import open_queue
from headrace.queue.redis_queue import RedisQueue
from schemas.names import output_layout, redis_keys
from schemas.records.message import ScoreChunk
from tests.fake_jobs import FakeJob, make_job
from tests.integration.controller_house import QUEUE, House, keys_of

Wait = Callable[..., Any]


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
    assert job.store.read(output_layout.SUCCESS) is not None
    assert keys_of(house.client, job) == []
    assert house.client.hgetall(redis_keys.JOBS) == {}
    assert house.client.llen(QUEUE) == 0


def test_a_message_is_small_and_holds_no_text(house: House, tmp_path: Path) -> None:
    job = make_job(tmp_path, ["the text of a row"] * 10, chunk_rows=5)
    house.follow(job)
    for raw in house.client.lrange(QUEUE, 0, -1):
        assert len(raw) < 2_048
        assert b"text of a row" not in raw


def test_what_a_dead_worker_never_acknowledged_is_gone_with_its_job(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    raw: Any = house.client.rpop(QUEUE)  # as kombu keeps it: [message, exchange, routing key]
    taken = json.dumps([json.loads(raw), "", "default"])
    house.client.hset(f"{redis_keys.QUEUE_PREFIX}unacked", "tag", taken)
    house.client.zadd(f"{redis_keys.QUEUE_PREFIX}unacked_index", {"tag": time.time() - 60})
    house.client.hset(f"{redis_keys.QUEUE_PREFIX}unacked", "other", "[1, 2")
    wait_until(house.until_ended(job))
    job.check()
    assert house.client.hkeys(f"{redis_keys.QUEUE_PREFIX}unacked") == [b"other"]
    assert house.client.zcard(f"{redis_keys.QUEUE_PREFIX}unacked_index") == 0


def test_a_message_on_its_way_to_a_worker_is_not_sent_again(house: House, job: FakeJob) -> None:
    house.follow(job)
    raw: Any = house.client.rpop(QUEUE)
    message = message_in(raw)
    assert message is not None
    taken = json.dumps([json.loads(raw), "", "default"])
    house.client.hset(f"{redis_keys.QUEUE_PREFIX}unacked", "tag", taken)
    house.client.zadd(f"{redis_keys.QUEUE_PREFIX}unacked_index", {"tag": time.time()})
    assert {c for _, c in RedisQueue(house.client, None).read("default").chunks} == set(range(20))
    later = RedisQueue(house.client, None).read("default", time.time() + 16)
    assert {c for _, c in later.chunks} == set(range(20)) - set(message.chunks)


# -- who reconciles


def test_one_controller_at_a_time_and_another_takes_over(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    second = house.another_controller()
    second.add(job.job, job.store)
    second.tick()
    assert (list(house.controller.tracked), list(second.tracked)) == ([job.job.key], [])
    house.controller.close()
    second.tick()
    assert list(second.tracked) == [job.job.key]
    house.controller, first = second, house.controller
    first.tick()
    assert first.tracked == {}
    wait_until(house.until_ended(job))
    job.check()


def test_a_lock_that_redis_forgot_is_taken_again(house: House, job: FakeJob) -> None:
    house.follow(job)
    house.client.delete(redis_keys.lock(job.job.key))
    house.controller.tick()
    assert house.client.get(redis_keys.lock(job.job.key)) == house.controller.name.encode()


def test_a_controller_that_lost_its_lock_leaves_the_job_alone(house: House, job: FakeJob) -> None:
    house.follow(job)
    house.client.set(redis_keys.lock(job.job.key), "another")
    house.client.delete(QUEUE)
    house.controller.tick()
    assert house.controller.tracked == {}
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


# -- cancel and pause


def test_a_cancelled_job_ends_and_its_messages_leave_the_queue(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    house.work(2)
    job.store.create(output_layout.CANCELLED, b'{"reason": "by hand"}')
    wait_until(lambda: house.tick() or job.manifest(), 15)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.reason) == ("cancelled", "by hand")
    assert house.client.llen(QUEUE) == 0
    assert keys_of(house.client, job) == []


def test_a_cancelled_job_stays_cancelled_when_redis_forgets(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    job.store.create(output_layout.CANCELLED, b'{"reason": "by hand"}')
    house.follow(job)
    house.client.flushall()
    wait_until(lambda: house.tick() or job.manifest(), 15)
    assert list(job.store.list(output_layout.DATA)) == []


def test_a_cancelled_job_waits_for_what_is_on_a_device(
    house: House, job: FakeJob, redis_client: redis.Redis
) -> None:
    house.follow(job)
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(0, Mark("a", "w"))
    job.store.create(output_layout.CANCELLED, b'{"reason": "x"}')
    house.controller.tracked[job.job.key].read_flags()
    house.controller.tick()
    assert job.manifest() is None
    book.release(0, "a")
    house.controller.tick()
    assert job.manifest() is not None


def test_a_paused_job_sends_nothing_until_it_is_resumed(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    job.store.create(output_layout.PAUSED, b"{}")
    house.follow(job)
    assert house.client.llen(QUEUE) == 0
    assert house.client.hget(redis_keys.job(job.job.key), "paused") == b"1"
    job.store.delete(output_layout.PAUSED)
    wait_until(house.until_ended(job))
    job.check()


# -- neighbours


def test_what_others_put_into_the_queue_is_left_alone(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    house.client.lpush(QUEUE, b"not ours", b"{}")
    foreign = ScoreChunk(job="f" * 16, output="/else", chunks=(0,), traceparent=None)
    open_queue(house.client, house.sender).send(foreign, "default")
    house.follow(job)
    wait_until(lambda: house.tick() or job.store.read(output_layout.SUCCESS) or step(house), 30)
    job.check()


def step(house: House) -> bool:
    """Some work; messages of others are taken and dropped, as a worker does."""
    house.work(5)
    return False


# -- what is wrong with one job is not wrong with the others


def test_a_job_whose_records_are_damaged_holds_no_other(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    bad, worse, good = (make_job(tmp_path / n, ["x"] * 40, chunk_rows=10) for n in "abc")
    bad.store.replace(output_layout.PLAN, b"PAR1 and no plan")
    worse.store.create(output_layout.parked(1), b'{"chunk": ')
    worse.store.create(output_layout.attempt(2, 1), b"\xff no record")
    worse.store.create(output_layout.attempt(3, 7), b"[]")
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
    folder = Path(job.store.uri) / output_layout.MANIFEST
    folder.mkdir()  # no file can take that name
    house.follow(job)
    house.work()
    for _ in range(3):
        house.controller._rest_until_monotonic.clear()
        house.tick()
    assert job.job.key in house.controller.tracked
    folder.rmdir()
    wait_until(house.until_ended(job))
    job.check()
