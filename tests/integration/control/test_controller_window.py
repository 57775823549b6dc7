"""What the controller sends and in which order, against a real Redis: window, priorities, fair shares."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.coordination.live_workers import heartbeat
from headrace.queue.kombu_layout import message_in
from headrace.queue.redis_queue import RedisQueue
from producers.control.dispatch_window import MIN_MESSAGES, window_size
from schemas.names import redis_keys
from schemas.records.model_key import speed_key
from tests.fake_jobs import make_job
from tests.integration.controller_house import QUEUE, House

Wait = Callable[..., Any]


def test_the_window_is_bounded_and_topped_up(house: House, tmp_path: Path) -> None:
    job = make_job(tmp_path, ["x"] * 1_000, chunk_rows=1)
    house.follow(job)
    assert house.client.llen(QUEUE) == MIN_MESSAGES
    house.controller.tick()
    assert house.client.llen(QUEUE) == MIN_MESSAGES
    house.work(10)
    house.controller.tick()
    assert house.client.llen(QUEUE) == MIN_MESSAGES


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
        assert RedisQueue(house.client, None).read("default").messages <= MIN_MESSAGES
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
        second._rest_until_monotonic[urgent.job.key] = time.monotonic() + 60
        wait_until(lambda: second.tick() or second._reporter.facts[urgent.job.key].ready == 0, 10)
        house.client.delete(QUEUE)
        house.follow(night)
        assert len(house.queued(night)) == 100
    finally:
        second.close()


def test_two_models_on_one_queue_are_not_loaded_again_for_each_message(
    house: House, tmp_path: Path
) -> None:
    nights = [
        make_job(tmp_path / name, ["x"] * 800, chunk_rows=1, params={"model": name})
        for name in "ab"
    ]
    # ten loads of 0.8 s are 8 s, which are 80 chunks of 0.1 s in messages of eight
    house.client.hset(redis_keys.MODEL_LOAD_SECONDS, speed_key(nights[0].job), 0.8)
    house.client.hset(redis_keys.SPEEDS, speed_key(nights[0].job), 50.0)
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
        heartbeat(house.client, f"other-{n}", facts)
    for n in range(20):
        heartbeat(house.client, f"own-{n}", {**facts, "queue": "default"})
    house.follow(make_job(tmp_path, ["x"] * 1_000, chunk_rows=1))
    assert house.client.llen(QUEUE) == window_size(20)
