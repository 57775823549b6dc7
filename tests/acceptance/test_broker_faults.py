"""Redis that loses messages, forgets everything, dies, hangs, or is full."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from headrace.queue.open import open_queue
from headrace.queue.redis_queue import RedisQueue
from schemas.names import output_layout, redis_keys
from schemas.records.message import ScoreChunk
from tests.acceptance.conftest import MakeFleet, Say, Scale
from tests.acceptance.harness.fleet import Fleet, attempts, lines, parts, pass_time
from tests.fake_jobs import FakeJob, make_job

QUEUE = redis_keys.QUEUE_PREFIX + "default"


def job_of(folder: Path, chunks: int) -> FakeJob:
    """A chunk takes 0.15 s. All of these have one model: two of them share a fleet chunk by chunk."""
    return make_job(
        folder, lines(30 * chunks), chunk_rows=30, params={"ms_per_row": 5}, batch_tokens=300
    )


def started(
    make_fleet: MakeFleet,
    folder: Path,
    chunks: int,
    chance: random.Random,
    persist: bool = False,
    *others: FakeJob,
) -> tuple[Fleet, FakeJob]:
    """A fleet of two in the middle of a job, one chunk a message."""
    job = job_of(folder, chunks)
    fleet = make_fleet(persist=persist, lease_s="4")
    fleet.controller.least_workers = 1_000
    fleet.start(2)
    fleet.follow(job, *others)
    fleet.until_parts(job, chance.randint(2, 8))
    pass_time(fleet, chance.random() / 4)  # a chunk takes 0.15 s: anywhere in one
    return fleet, job


@pytest.mark.timeout(200)
def test_3_deleted_messages_are_put_back(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 60, chance)
    deletions, slowest = scale.of(1, 3), 0.0
    for _ in range(deletions):
        before = len(parts(job))
        began = time.monotonic()
        fleet.client.delete(QUEUE, f"{redis_keys.QUEUE_PREFIX}unacked")
        fleet.wait(
            lambda: RedisQueue(fleet.client, None).read("default").chunks or job.manifest(), 60
        )
        slowest = max(slowest, time.monotonic() - began)
        fleet.until_parts(job, min(before + chance.randint(2, 12), 60))
    fleet.until_ended(job)
    job.check()
    assert slowest < 60
    say("3", f"the queue deleted {deletions} times: put back within {slowest:.1f} s, complete")


@pytest.mark.timeout(200)
def test_3_flushall_in_mid_job(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 60, chance)
    slowest = 0.0
    for _ in range(3):
        before = len(parts(job))
        began = time.monotonic()
        fleet.client.flushall()
        fleet.wait(
            lambda: RedisQueue(fleet.client, None).read("default").chunks or job.manifest(), 60
        )
        slowest = max(slowest, time.monotonic() - began)
        fleet.until_parts(job, min(before + chance.randint(2, 12), 60))
    fleet.until_ended(job)
    job.check()
    assert attempts(job) == {}
    say("3", f"FLUSHALL 3 times in mid-job: put back within {slowest:.1f} s, complete")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "persist",
    [False, pytest.param(True, marks=pytest.mark.long_only)],
    ids=["forgets", "append-only"],
)
def test_4_redis_killed_and_started_again(
    persist: bool,
    make_fleet: MakeFleet,
    tmp_path: Path,
    scale: Scale,
    chance: random.Random,
    say: Say,
) -> None:
    cancelled = job_of(tmp_path / "b", 600)  # a minute of work and more: never over before its end
    fleet, job = started(make_fleet, tmp_path / "a", 50, chance, persist, cancelled)
    fleet.until_parts(cancelled, 1)
    cancelled.store.create(output_layout.CANCELLED, b'{"reason": "by hand"}')
    fleet.redis.kill()
    down_s = scale.of(3, 60)
    pass_time(fleet, down_s)
    before, stood = len(parts(job)), parts(cancelled)
    fleet.redis.start()
    began = time.monotonic()
    fleet.until_parts(job, before + 1)
    took = time.monotonic() - began
    fleet.until_ended(job)
    job.check()
    assert took < 10
    assert fleet.until_ended(cancelled).state == "cancelled"
    assert parts(cancelled) == stood
    kind = "with" if persist else "without"
    say("4", f"Redis killed for {down_s} s {kind} append-only file: on after {took:.1f} s, 0 lost")


@pytest.mark.timeout(300)
def test_4_redis_that_hangs(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 50, chance)
    assert fleet.redis.pid is not None
    os.kill(fleet.redis.pid, signal.SIGSTOP)
    down_s = scale.of(4, 60)
    pass_time(fleet, down_s)
    before = len(parts(job))
    os.kill(fleet.redis.pid, signal.SIGCONT)
    began = time.monotonic()
    fleet.until_parts(job, before + 1)
    took = time.monotonic() - began
    fleet.until_ended(job)
    job.check()
    assert took < 60
    say(
        "4", f"Redis that accepts and does not answer for {down_s} s: on after {took:.1f} s, 0 lost"
    )


@pytest.mark.timeout(400)
def test_4_a_wire_that_goes_dead_without_a_word(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, chance: random.Random, say: Say
) -> None:
    job = job_of(tmp_path, scale.of(20, 300))
    fleet = make_fleet(wired=True)
    wire = fleet.wire
    assert wire is not None
    fleet.controller.least_workers = 1_000  # one chunk a message
    fleet.start(2)
    fleet.wait(partial(waiting_for_a_message, fleet, 2), 60, "both workers to wait for a message")
    slowest, lost = 0.0, []
    for cut in range(scale.of(1, 4)):  # the first while they wait, the others in mid-job
        pass_time(fleet, chance.random())
        before = [w.logged('"chunk.committed"') for w in fleet.workers]
        lost.append(wire.cut())
        began = time.monotonic()
        if cut == 0:
            fleet.follow(job)
        fleet.wait(lambda b=before: job.manifest() or both_went_on(fleet, b), 90, "both to go on")
        slowest = max(slowest, time.monotonic() - began)
    fleet.until_ended(job)
    job.check()
    assert attempts(job) == {}
    assert min(lost) >= 5  # each worker's parent and its receiver, and the controller
    assert slowest < 60
    say(
        "4",
        f"{sum(lost)} connections dead in {len(lost)} cuts of the wire, none closed: both workers on within "
        f"{slowest:.1f} s, 0 lost",
    )


def waiting_for_a_message(fleet: Fleet, count: int) -> bool:
    return sum(c["cmd"] == "brpop" for c in fleet.client.client_list()) >= count


def both_went_on(fleet: Fleet, before: list[int]) -> bool:
    """Each has committed two chunks since: the first may have been in its hand."""
    now = [w.logged('"chunk.committed"') for w in fleet.workers]
    return all(n >= b + 2 for n, b in zip(now, before, strict=True))


@pytest.mark.timeout(200)
def test_16_redis_at_its_maxmemory(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 50, chance)
    fleet.client.config_set("maxmemory", "1kb")
    full_at = len(parts(job))
    fleet.wait(lambda: fleet.logged("broker.unreachable"), 30, "the workers to say it")
    pass_time(fleet, 1)
    fleet.client.config_set("maxmemory", "0")
    began = time.monotonic()
    fleet.until_ended(job)
    job.check()
    assert attempts(job) == {}
    say(
        "16",
        f"Redis full at {full_at} of 50 parts: said so, done {time.monotonic() - began:.0f} s after",
    )


@pytest.mark.long_only
@pytest.mark.timeout(200)
def test_a_controller_that_dies_is_replaced_within_fifteen_seconds(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 200, chance)
    holder = fleet.client.get(redis_keys.lock(job.job.key))
    second = fleet.another_controller()
    second.add(job.job, job.store)
    fleet.stop_controller()  # without giving its lock back, as kill -9 leaves it
    began = time.monotonic()
    fleet.wait(lambda: fleet.client.get(redis_keys.lock(job.job.key)) not in (None, holder), 20)
    took = time.monotonic() - began
    fleet.until_ended(job)
    job.check()
    assert took < 15
    say("1", f"a controller killed: another took over after {took:.1f} s")


@pytest.mark.timeout(120)
def test_what_a_neighbour_writes_into_the_queue_is_put_aside_and_ends_no_worker(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    fleet, job = started(make_fleet, tmp_path, 40, chance)
    pids = [worker.pid for worker in fleet.workers]
    raw = fleet.wait(lambda: fleet.client.lindex(QUEUE, 0), 20, "a message to forge")
    forged = json.loads(raw)
    eternal = {**forged["headers"], "eta": "2999-01-01T00:00:00"}
    deadly = {**forged["headers"], "timelimit": [0.01, 0.01]}
    foreign = {**forged["headers"], "task": "os.system"}
    other_job = ScoreChunk(job="0" * 16, output=str(tmp_path), chunks=(0,))
    pushed = [
        b"no json", b"[]", b"{}", json.dumps({**forged, "properties": {}}).encode(),
        json.dumps({**forged, "content-type": "application/x-python-serialize"}).encode(),
        *(json.dumps({**forged, "headers": h}).encode() for h in (eternal, deadly, foreign)),
    ]  # fmt: skip
    for one in chance.sample(pushed, len(pushed)):
        fleet.client.rpush(QUEUE, one)  # the end that is popped
    open_queue(fleet.client, fleet.sender).send(other_job, "default")
    fleet.client.rpush(QUEUE, raw)  # an old message: its chunk has been done by then, or is
    fleet.until_ended(job)
    job.check()
    fleet.wait(
        lambda: fleet.client.llen(redis_keys.REJECTED) > len(pushed), 20, "all to be put aside"
    )
    assert attempts(job) == {}
    assert [worker.pid for worker in fleet.workers] == pids
    say("door", f"{len(pushed) + 1} forged messages put aside and counted, no worker ended")
