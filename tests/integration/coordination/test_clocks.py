"""Two hosts whose clocks are hours apart: what one writes is judged by Redis's clock alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from headrace.coordination.attempts import attempt_of_death
from headrace.coordination.leases import FORWARD
from headrace.coordination.live_workers import heartbeat, read_workers
from headrace.coordination.redis_clock import SYNC_S, RedisClock, redis_now
from headrace.output.plan_file import PlanTable
from producers.control.demand import DemandReporter
from producers.scaling.decision import Limits
from producers.scaling.facts import read_facts
from producers.scaling.scaler import Scaler
from producers.tracking.tracked_job import TrackedJob
from tests.fake_jobs import make_job
from workers.execution.drain import Drain, WorkerLimits
from workers.execution.lease_keeper import LeaseKeeper

HOURS = 7_200.0
Host = Callable[[float], AbstractContextManager[None]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A block that runs on a host whose wall clock is so many seconds off."""
    real = time.time

    @contextmanager
    def on(off_s: float) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + off_s)
            yield

    return on


@pytest.mark.parametrize("off_s", [-HOURS, HOURS])
def test_a_worker_on_a_host_with_another_clock_is_alive_and_was_just_seen(
    redis_client: redis.Redis, host: Host, off_s: float
) -> None:
    with host(off_s):
        heartbeat(redis_client, "idle", {"queue": "default"})
        held = LeaseKeeper(
            redis_client, "j", "busy", WorkerLimits(30, 600, 5), Drain(), facts={"queue": "default"}
        )
        with held:
            control, _ = held.take(1, 10, "a")
            assert control is not None
            control.begin()
            control.forwarding([1, 2])
            held.say_busy()
            now = redis_now(redis_client)
            found = {w.name: w for w in read_workers(redis_client, now)}
            assert set(found) == {"idle", "busy"}
            assert all(abs(now - w.seen_s) < 5 for w in found.values())
            progress_s = found["busy"].progress_s
            assert progress_s is not None
            assert abs(now - progress_s) < 5
            facts = read_facts(redis_client, now)
            assert (facts.fleet("default").busy, facts.fleet("default").idle) == (1, 1)


@pytest.mark.parametrize("off_s", [-HOURS, HOURS])
def test_whether_a_batch_took_too_long_is_judged_by_one_clock(
    redis_client: redis.Redis, host: Host, off_s: float
) -> None:
    with host(off_s):
        held = LeaseKeeper(redis_client, "j", "w", WorkerLimits(30, 600, 5), Drain())
        with held:
            control, _ = held.take(1, 10, "a")
            assert control is not None
            control.forwarding([1])
            mark = control.mark
    assert mark.stage == FORWARD
    now = redis_now(redis_client)
    soon = attempt_of_death(1, mark, time.time(), "controller", now)
    late = attempt_of_death(1, mark, time.time(), "controller", now + 601)
    assert soon is not None
    assert late is not None
    assert (soon.cause, late.cause) == ("worker_lost", "timeout")


def test_what_a_controller_on_another_host_wants_is_not_old(
    redis_client: redis.Redis, host: Host, tmp_path: Path
) -> None:
    job = make_job(tmp_path, ["a"] * 100, chunk_rows=10)
    with host(-HOURS):
        tracked = TrackedJob(job.job, job.store, PlanTable.load(job.store), redis_client, "far")
        tracked.load()
        DemandReporter(redis_client).report([tracked])
    near = DemandReporter(redis_client)
    near.report([])
    assert set(near.others) == {job.job.key}
    scaler = Scaler(redis_client, Limits(), clock=RedisClock(redis_client))
    with host(-HOURS):
        scaler.answer("default", {"host": "far", "slots": "2"}, time.time())
    body = scaler.answer("default", {"host": "near", "slots": "2"}, time.time())
    assert body["backlog_chunks"] == 10
    assert body["share"] + 2 >= body["workers"], "the far host is counted"


def test_redis_is_asked_once_a_minute_and_counted_on_while_it_is_away(
    redis_client: redis.Redis,
) -> None:
    class Client:
        asked = 0
        away = False

        def time(self) -> tuple[int, int]:
            self.asked += 1
            if self.away:
                raise redis.ConnectionError
            return 5_000_000, 500_000

    at = [100.0]
    client = Client()
    clock = RedisClock(client, lambda: at[0])
    assert clock.now() == 5_000_000.5
    at[0] += SYNC_S - 1
    assert clock.now() == pytest.approx(5_000_000.5 + SYNC_S - 1)
    assert client.asked == 1
    client.away = True
    at[0] += SYNC_S
    assert clock.now() == pytest.approx(5_000_000.5 + 2 * SYNC_S - 1)
    assert client.asked == 2
    away = Client()
    away.away = True
    assert abs(RedisClock(away).now() - time.time()) < 5
