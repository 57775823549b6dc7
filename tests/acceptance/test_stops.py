"""Zombies, drains, long chunks, cancel: workers that stop without dying, or die without hurry."""

from __future__ import annotations

import os
import random
import signal
import stat
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from schemas.names import output_layout, redis_keys
from tests.acceptance.conftest import MakeFleet, Say, Scale
from tests.acceptance.harness.fleet import Fleet, Worker, attempts, lines, parts, pass_time
from tests.fake_jobs import FakeJob, make_job
from workers.consumer.celery_pool import unread_bytes

SLOW = {"ms_per_row": 25}
"""A chunk of 100 rows takes 2.5 s, in batches of about five rows."""


def computing(fleet: Fleet, job: FakeJob) -> dict[str, int]:
    """Worker → chunk that is on its device."""
    return {m.worker: c for c, m in fleet.leases(job).marks().items() if m.rows}


def _is_computing_or_over(fleet: Fleet, job: FakeJob, worker: Worker) -> bool:
    return worker.name in computing(fleet, job) or job.manifest() is not None


def freeze(worker: Worker) -> None:
    """Stop parent and child, as a paused virtual machine would."""
    worker.signal(signal.SIGSTOP, child=True)
    worker.signal(signal.SIGSTOP, child=False)


def thaw(worker: Worker) -> None:
    worker.signal(signal.SIGCONT, child=False)
    worker.signal(signal.SIGCONT, child=True)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_6_a_zombie_that_wakes_finds_anothers_work_and_drops_its_own(
    moment: str, make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    job = make_job(tmp_path, lines(100), chunk_rows=100, params=SLOW, batch_tokens=200)
    fleet = make_fleet(lease_s="1.5")
    fleet.start(2)
    fleet.wait(lambda: all(w.children() for w in fleet.workers), 60, "two workers")
    fleet.follow(job)
    first = fleet.wait(lambda: computing(fleet, job), 60, "the chunk to be on a device")
    zombie = next(w for w in fleet.workers if w.name in first)
    freeze(zombie)
    fleet.wait(lambda: computing(fleet, job).keys() - {zombie.name}, 60, "the replacement")
    if moment == "after":
        fleet.until_ended(job)
    stood = job.store.read(output_layout.part(0))
    thaw(zombie)
    fleet.until_ended(job)
    fleet.wait(lambda: _gave_up(zombie), 30, "the zombie to drop its own")
    after = job.store.read(output_layout.part(0))
    assert moment == "before" or after == stood
    job.check()
    fleet.wait(lambda: not [k for k in fleet.client.keys("*") if job.id.encode() in k], 10)
    assert [len(a) for a in attempts(job).values()] == [1]
    say("6", f"a zombie woken {moment} its replacement committed: 1 part, it dropped its own")


def _gave_up(worker: Worker) -> bool:
    log = worker.log.read_text()
    return "lease.lost" in log or "another part exists" in log


@pytest.mark.timeout(1_500)
def test_10_rolling_drains_lose_and_double_nothing(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, chance: random.Random, say: Say
) -> None:
    drains = scale.of(4, 40)
    chunks = scale.of(25, 60) * drains
    job = make_job(
        tmp_path, lines(30 * chunks), chunk_rows=30, params={"ms_per_row": 4}, batch_tokens=300
    )
    fleet = make_fleet(grace_s="5")
    fleet.start(2)
    fleet.follow(job)
    slowest = 0.0
    for n in range(drains):
        worker = fleet.workers[n % 2]
        fleet.wait(partial(_is_computing_or_over, fleet, job, worker), 60)
        pass_time(fleet, chance.random() / 4)
        began = time.monotonic()
        pid = worker.pid
        worker.signal(signal.SIGTERM, child=False)
        fleet.restarts = False
        fleet.wait(worker.has_left, 20, "the drain to end")
        fleet.restarts = True
        slowest = max(slowest, time.monotonic() - began)
        assert worker.process is not None
        assert (worker.process.returncode, worker.process.pid) == (0, pid)
    assert job.manifest() is None, "the job ended before the last drain"
    fleet.until_ended(job, scale.of(200, 900))
    job.check()
    assert attempts(job) == {}
    assert fleet.logged("another part exists") == 0
    assert fleet.logged('"chunk.committed"') == chunks
    assert slowest < 5 + 3
    say(
        "10",
        f"{drains} drains over {chunks} chunks: 0 lost, 0 doubled, 0 attempts counted, slowest "
        f"exit {slowest:.1f} s of 5 s grace",
    )


@pytest.mark.timeout(120)
def test_10_a_drain_gives_a_long_chunk_back_at_once(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    slow = {"ms_per_row": 100}
    job = make_job(tmp_path, lines(300), chunk_rows=300, params=slow, batch_tokens=200)
    fleet = make_fleet(grace_s="3")
    fleet.start(1)
    fleet.follow(job)
    fleet.wait(lambda: computing(fleet, job), 60)
    fleet.restarts = False
    began = time.monotonic()
    fleet.workers[0].signal(signal.SIGTERM, child=False)
    fleet.wait(lambda: not fleet.workers[0].is_alive, 20, "the drain to end")
    took = time.monotonic() - began
    assert took < 3 + 2
    assert attempts(job) == {}
    assert fleet.leases(job).marks() == {}
    say("10", f"a chunk of 30 s given back {took:.1f} s after SIGTERM, at 3 s grace")


@pytest.mark.timeout(120)
def test_10_a_second_sigterm_is_quick(make_fleet: MakeFleet, tmp_path: Path, say: Say) -> None:
    slow = {"ms_per_row": 20}
    job = make_job(tmp_path, lines(400), chunk_rows=400, params=slow, batch_tokens=200)
    fleet = make_fleet(grace_s="60")
    fleet.start(1)
    fleet.follow(job)
    fleet.wait(lambda: fleet.rows_live(job), 60, "a sign of life")
    fleet.restarts = False
    worker = fleet.workers[0]
    worker.signal(signal.SIGTERM, child=False)
    fleet.wait(lambda: fleet.logged("worker.draining"), 10)
    seen = fleet.rows_live(job)
    fleet.wait(lambda: fleet.rows_live(job) > seen + 50, 20, "work to go on for a second")
    assert worker.is_alive  # the chunk fits the grace time
    began = time.monotonic()
    worker.signal(signal.SIGTERM, child=False)
    fleet.wait(lambda: not worker.is_alive, 15, "the worker to leave")
    took = time.monotonic() - began
    assert took < 5
    say("10", f"a second SIGTERM ended it after {took:.1f} s of 60 s grace")


by_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into pipes by /proc")


def hand_over_a_chunk(make_fleet: MakeFleet, folder: Path) -> tuple[Fleet, FakeJob, Worker]:
    """A chunk of 30 s in the pipe of the one worker's child, which is stopped and has not read it."""
    fleet = make_fleet(grace_s="3")
    fleet.start(1)
    worker, warm = fleet.workers[0], make_job(folder / "warm", lines(3))
    slow = {"ms_per_row": 100}
    job = make_job(folder / "job", lines(300), chunk_rows=300, params=slow, batch_tokens=200)
    fleet.follow(warm)
    fleet.until_ended(warm)
    fleet.restarts = False
    fleet.wait(lambda: not fleet.leases(warm).marks(), 20, "the worker to be idle")
    pass_time(fleet, 1.0)  # its result is on the way to the parent, which nothing outside shows
    worker.signal(signal.SIGSTOP, child=True)
    fleet.follow(job)
    fleet.wait(lambda: unread_by_child(worker), 20, "the message to be handed over")
    return fleet, job, worker


def check_nothing_is_left(fleet: Fleet, job: FakeJob, worker: Worker) -> None:
    """It ended well, no attempt was counted and no lease is left."""
    fleet.wait(worker.has_left, 20, "the drain to end")
    assert worker.process is not None
    assert (worker.process.returncode, attempts(job), fleet.leases(job).marks()) == (0, {}, {})


def unread_by_child(worker: Worker) -> int:
    """Bytes in the pipes that lead to the process that computes."""
    return sum(_unread(Path(f"/proc/{p.pid}/fd")) for p in worker.children())


def _unread(descriptors: Path) -> int:
    pipes = [d for d in descriptors.iterdir() if os.readlink(d).startswith("pipe:")]
    readable = [d for d in pipes if d.lstat().st_mode & stat.S_IRUSR]
    return sum(_waiting_in(pipe) for pipe in readable)


def _waiting_in(pipe: Path) -> int:
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return unread_bytes(opened)
    finally:
        os.close(opened)


@by_proc
@pytest.mark.timeout(120)
def test_10_a_drain_waits_for_a_child_that_has_not_read_its_message(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    fleet, job, worker = hand_over_a_chunk(make_fleet, tmp_path)
    worker.signal(signal.SIGTERM, child=False)
    fleet.wait(lambda: worker.logged("worker.draining"), 20)
    worker.signal(signal.SIGCONT, child=True)
    check_nothing_is_left(fleet, job, worker)
    assert fleet.client.llen("headrace:queue:default") == 1  # for another worker
    say("10", "a drain as a message was handed over: back in the queue, 0 leases, 0 attempts")


@by_proc
@pytest.mark.timeout(120)
def test_10_a_drain_reaches_a_child_whose_acceptance_was_not_read_yet(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    fleet, job, worker = hand_over_a_chunk(make_fleet, tmp_path)
    worker.signal(signal.SIGSTOP, child=False)
    worker.signal(signal.SIGCONT, child=True)
    fleet.wait(lambda: computing(fleet, job), 20, "the chunk to be on the device")
    began = time.monotonic()
    worker.signal(signal.SIGTERM, child=False)
    worker.signal(signal.SIGCONT, child=False)
    check_nothing_is_left(fleet, job, worker)
    took = time.monotonic() - began
    assert worker.logged('"chunk.released"') == 1
    assert took < 3 + 5
    say("10", f"a drain before an acceptance was read: given back, gone after {took:.1f} s")


@pytest.mark.timeout(120)
def test_10_a_child_killed_during_a_drain_leaves_no_lease(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    job = make_job(tmp_path, lines(400), chunk_rows=400, params={"ms_per_row": 20})
    fleet = make_fleet(grace_s="60")
    fleet.start(1)
    fleet.follow(job)
    fleet.wait(lambda: fleet.rows_live(job), 60, "a sign of life")
    fleet.restarts, worker = False, fleet.workers[0]
    worker.signal(signal.SIGTERM, child=False)
    fleet.wait(lambda: worker.logged("worker.draining"), 20)
    worker.signal(signal.SIGKILL, child=True)
    fleet.wait(worker.has_left, 20, "the worker to leave")
    assert fleet.leases(job).marks() == {}
    assert [[a.seen_by for a in found] for found in attempts(job).values()] == [["parent of w0"]]
    say("10", "a child killed during a drain: recorded and its lease released by the parent")


@pytest.mark.timeout(120)
def test_5_a_chunk_of_many_leases_is_executed_once(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    job = make_job(tmp_path, lines(220), chunk_rows=220, params=SLOW, batch_tokens=100)
    fleet = make_fleet(lease_s="1")
    fleet.start(2)
    fleet.follow(job)
    took = fleet.until_ended(job).totals.device_s
    job.check()
    assert attempts(job) == {}
    assert fleet.logged('"chunk.committed"') == 1
    assert fleet.logged('"chunk.skipped"') == 0
    assert took > 5
    say("5", f"a chunk of {took:.1f} leases with an idle worker beside it: 1 execution")


@pytest.mark.long_only
@pytest.mark.timeout(120)
def test_5_a_batch_of_many_leases_is_executed_once(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    texts = ["one batch that lasts __sleep_ms__6000"]
    job = make_job(tmp_path, texts)
    fleet = make_fleet(lease_s="1")
    fleet.start(2)
    fleet.follow(job)
    fleet.until_ended(job)
    job.check()
    assert attempts(job) == {}
    assert (fleet.logged('"chunk.committed"'), fleet.logged('"chunk.skipped"')) == (1, 0)
    say("5", "a single batch of six leases: 1 execution")


@pytest.mark.timeout(120)
def test_15_a_job_cancelled_while_workers_are_down_is_not_begun(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    job = make_job(tmp_path, lines(1_000), chunk_rows=10, params={"ms_per_row": 5})
    fleet = make_fleet(lease_s="2")
    fleet.start(2)
    fleet.follow(job)
    fleet.until_parts(job, chance.randint(2, 40))
    fleet.restarts = False
    for worker in fleet.workers:
        worker.end()
    done = parts(job)
    job.store.create(output_layout.CANCELLED, b'{"reason": "by hand"}')
    for worker in fleet.workers:
        worker.start()
    manifest = fleet.until_ended(job, 60)
    assert manifest.state == "cancelled"
    assert parts(job) == done
    fleet.wait(lambda: all(w.children() for w in fleet.workers), 30)
    assert parts(job) == done
    say(
        "15", f"cancelled with all workers down at {len(done)} of 100 parts: no further chunk began"
    )


@pytest.mark.timeout(120)
def test_9_out_of_memory_halves_the_batch_and_loses_no_row(
    make_fleet: MakeFleet, tmp_path: Path, chance: random.Random, say: Say
) -> None:
    texts = [f"row {i} __oom__500" for i in range(600)]
    whale = chance.randrange(600)
    texts[whale] = "x" * 600 + "__oom__500"
    job = make_job(tmp_path, texts, chunk_rows=200, batch_tokens=8_000)
    fleet = make_fleet()
    fleet.start(1)
    fleet.follow(job)
    manifest = fleet.until_ended(job)
    job.check({whale: "out_of_memory"})
    assert attempts(job) == {}
    assert manifest.totals.ok == 599
    say(
        "9", "memory for 500 tokens, batches of 8,000: halved, 599 of 600 ok, 1 row that never fits"
    )


@pytest.mark.timeout(200)
def test_18_killed_at_half_and_resumed_computes_little_twice(
    make_fleet: MakeFleet, tmp_path: Path, scale: Scale, say: Say
) -> None:
    chunks = scale.of(80, 200)
    job = make_job(
        tmp_path, lines(20 * chunks), chunk_rows=20, params={"ms_per_row": 4}, batch_tokens=300
    )
    fleet = make_fleet()
    fleet.start(2)
    fleet.follow(job)
    fleet.until_parts(job, chunks // 2)
    for worker in fleet.workers:
        worker.end()
    in_batch = sum(len(m.rows) for m in fleet.leases(job).marks().values())
    lost = in_batch + fleet.rows_live(job)
    fleet.close()
    again = make_fleet(lease_s="2")  # a new Redis too: nothing but the output is left
    again.start(2)
    again.follow(job)
    manifest = again.until_ended(job)
    job.check()
    share = (manifest.totals.computed + lost) / manifest.totals.rows
    assert share <= 1.05
    say(
        "18",
        f"killed with Redis at half of {chunks} chunks, resumed: {share:.3f} × the rows inferred",
    )


@pytest.mark.timeout(120)
def test_every_key_has_the_prefix_and_a_life_and_a_finished_job_leaves_none(
    make_fleet: MakeFleet, tmp_path: Path, say: Say
) -> None:
    job = make_job(tmp_path, lines(300), chunk_rows=10, params={"ms_per_row": 5}, batch_tokens=200)
    fleet = make_fleet()
    fleet.start(2)
    fleet.follow(job)
    fleet.until_parts(job, 5)
    fleet.wait(lambda: not immortal(fleet), 20, "every key to have a life")
    during = {key.decode() for key in fleet.client.keys("*")}
    assert {key for key in during if not key.startswith(redis_keys.PREFIX)} == set()
    assert len([key for key in during if job.job.key in key]) >= 4
    fleet.until_ended(job)
    fleet.restarts = False
    for worker in fleet.workers:
        worker.signal(signal.SIGTERM, child=False)
        fleet.wait(worker.has_left, 20, "the worker to leave")
    fleet.close_controllers()
    after = {key.decode() for key in fleet.client.keys("*")}
    assert [key for key in after if job.id in key] == []
    assert fleet.client.llen(redis_keys.QUEUE_PREFIX + "default") == 0
    assert immortal(fleet) == []
    say(
        "keys",
        f"{len(during)} keys in mid-job, one prefix, each with a life; none of the job's after it",
    )


def immortal(fleet: Fleet) -> list[str]:
    """The keys that would stand for ever."""
    return [key.decode() for key in fleet.client.keys("*") if fleet.client.ttl(key) == -1]
