"""Leases and marks in a real Redis: one holder, deaths that are seen, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from headrace.coordination.attempts import attempt_of_death
from headrace.coordination.leases import (
    FORWARD,
    HANGING,
    LeaseBook,
    Mark,
)
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect
from schemas.errors import Stopped
from schemas.names import redis_keys
from workers.execution.drain import Drain, WorkerLimits
from workers.execution.lease_keeper import ChunkControl, LeaseKeeper

JOB = "0123456789abcdef"
Wait = Callable[..., object]


@pytest.fixture
def book(redis_client: redis.Redis) -> LeaseBook:
    return LeaseBook(redis_client, JOB, 30.0)


def mark(attempt: str, **more: object) -> Mark:
    return Mark(attempt, f"worker-of-{attempt}", **more)  # type: ignore[arg-type]


def test_one_of_many_takes_a_chunk(redis_client: redis.Redis) -> None:
    won: list[str] = []
    start = threading.Barrier(16)

    def race(attempt: str) -> None:
        mine = LeaseBook(redis_client, JOB, 30.0)
        start.wait(5)
        if mine.take(7, mark(attempt))[0]:
            won.append(attempt)

    threads = [threading.Thread(target=race, args=(f"a{n}",)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_take_whose_reply_was_lost_is_taken_again(book: LeaseBook) -> None:
    assert book.take(1, mark("a"))[0]
    assert book.take(1, mark("a"))[0]
    assert not book.take(1, mark("b"))[0]


def test_what_is_released_can_be_taken_and_no_death_is_seen(book: LeaseBook) -> None:
    book.take(1, mark("a"))
    book.release(1, "a")
    assert book.look()[1] == {}
    assert book.take(1, mark("b")) == (True, None)


def test_a_release_by_who_lost_the_chunk_changes_nothing(book: LeaseBook) -> None:
    book.take(1, mark("b"))
    book.release(1, "a")
    assert book.look()[0] == {1}
    assert book.marks() == {1: mark("b")}


def test_holding_writes_the_mark_and_keeps_the_lease(
    book: LeaseBook, redis_client: redis.Redis
) -> None:
    book.take(1, mark("a"))
    redis_client.pexpire(redis_keys.lease(JOB, 1), 50)
    assert book.hold(1, mark("a", stage=FORWARD, rows=(4, 5)))
    assert redis_client.pttl(redis_keys.lease(JOB, 1)) > 20_000
    assert book.marks()[1].rows == (4, 5)


def test_a_lease_that_vanished_is_taken_again_under_the_same_id(
    book: LeaseBook, redis_client: redis.Redis
) -> None:
    book.take(1, mark("a"))
    redis_client.flushall()
    assert book.hold(1, mark("a"))
    assert book.look()[0] == {1}
    assert book.marks() == {1: mark("a")}
    assert redis_client.ttl(redis_keys.marks(JOB)) > 0


def test_anothers_id_means_lost(book: LeaseBook, redis_client: redis.Redis) -> None:
    book.take(1, mark("a"))
    redis_client.flushall()
    book.take(1, mark("b"))
    assert not book.hold(1, mark("a"))
    assert book.marks() == {1: mark("b")}


def test_a_mark_without_a_lease_is_a_death(redis_client: redis.Redis, wait_until: Wait) -> None:
    short = LeaseBook(redis_client, JOB, 0.05)
    short.take(1, mark("a", stage=FORWARD, rows=(9,)))
    wait_until(lambda: short.look()[1], 5, "the lease to run out")
    assert short.look()[1] == {1: mark("a", stage=FORWARD, rows=(9,))}


def test_the_next_lease_returns_the_mark_of_a_crash(
    redis_client: redis.Redis, wait_until: Wait
) -> None:
    short = LeaseBook(redis_client, JOB, 0.05)
    short.take(1, mark("a", stage=FORWARD, rows=(9,)))
    wait_until(lambda: not short.look()[0], 5, "the lease to run out")
    assert LeaseBook(redis_client, JOB, 30.0).take(1, mark("b"))[1] == mark(
        "a", stage=FORWARD, rows=(9,)
    )


def test_a_death_is_forgotten_once_and_never_the_next_attempts_mark(book: LeaseBook) -> None:
    book.take(1, mark("a"))
    book.hold(1, mark("a", rows=(1,)))
    book.forget(1, mark("a"))  # an older state: it was written since
    assert 1 in book.marks()
    book.forget(1, mark("a", rows=(1,)))
    assert book.marks() == {}


def test_marks_that_others_wrote_are_passed_over(
    book: LeaseBook, redis_client: redis.Redis
) -> None:
    redis_client.hset(
        redis_keys.marks(JOB), mapping={"1": "{}", "x": "y", "2": b"\xff", "-3": "[]"}
    )
    book.take(4, mark("a"))
    assert book.marks() == {4: mark("a")}


def test_leases_and_marks_have_a_life(book: LeaseBook, redis_client: redis.Redis) -> None:
    book.take(1, mark("a"))
    assert all(redis_client.pttl(key) > 0 for key in redis_client.keys("*"))


def test_two_jobs_do_not_meet(redis_client: redis.Redis, book: LeaseBook) -> None:
    other = LeaseBook(redis_client, "f" * 16, 30.0)
    assert book.take(1, mark("a"))[0]
    assert other.take(1, mark("b"))[0]
    assert other.marks() == {1: mark("b")}


def test_a_heartbeat_under_way_does_not_take_again_what_was_given_back(
    redis_client: redis.Redis,
) -> None:
    held = LeaseKeeper(redis_client, JOB, "w", WorkerLimits(30, 600, 5), Drain())
    with held:
        control, _ = held.take(1, 10, "a")
        assert control is not None
        held.release(1)
        control.renew()
        control.encoding(0, 5)
        assert held.book.marks() == {}
        assert held.book.look()[0] == set()


def test_a_job_without_marks_has_no_lease_and_no_crash(book: LeaseBook) -> None:
    assert book.look() == (set(), {})


def test_a_chunk_that_is_given_back_is_never_taken_for_a_crash(
    book: LeaseBook, redis_client: redis.Redis
) -> None:
    stop = threading.Event()

    def gives_back() -> None:
        mine = LeaseBook(redis_client, JOB, 30.0)
        while not stop.is_set():
            mine.take(1, mark("a", stage=FORWARD))
            mine.release(1, "a")

    thread = threading.Thread(target=gives_back)
    thread.start()
    try:
        seen = [book.look() for _ in range(3_000)]
    finally:
        stop.set()
        thread.join()
    assert {frozenset(leased) for leased, _ in seen} == {frozenset(), frozenset({1})}
    assert all(dead == {} for _, dead in seen)


def test_with_redis_away_the_output_says_whether_to_stop(tmp_path: Path, wait_until: Wait) -> None:
    told: set[str] = set()
    with EmbeddedRedis(tmp_path) as server:
        client = connect(server.url, name="test")
        held = LeaseKeeper(
            client, JOB, "w", WorkerLimits(30, 600, 5), Drain(), flags_in_store=lambda: set(told)
        )
        with held:
            control, _ = held.take(1, 10, "a")
            assert control is not None
            server.kill()
            told.add("cancelled")
            wait_until(held.stop_reason, 20)
            with pytest.raises(Stopped, match="cancelled"):
                control.check()
        client.close()


def test_a_read_that_never_returns_gives_everything_back_and_ends_the_process(
    redis_client: redis.Redis, wait_until: Wait
) -> None:
    limits = WorkerLimits(lease_s=30, batch_timeout_s=0.3, grace_s=5)
    ended: list[bool] = []
    answer = threading.Event()
    held = LeaseKeeper(redis_client, JOB, "w", limits, Drain(), on_hang=lambda: ended.append(True))

    def read(control: ChunkControl) -> None:
        with control.disk():
            answer.wait(30)

    with held:
        hanging, _ = held.take(1, 10, "a")
        other, _ = held.take(2, 10, "b")
        assert hanging is not None
        assert other is not None
        hanging.begin()
        other.begin()
        thread = threading.Thread(target=read, args=(hanging,))
        thread.start()
        wait_until(lambda: ended, 20)
        assert held.book.look()[0] == set(), "another worker may take both at once"
        assert list(held.book.marks()) == [1], "of the other chunk no crash is seen"
        crash = attempt_of_death(1, held.book.marks()[1], time.time(), "controller")
        assert crash is not None
        assert (crash.cause, crash.stage, crash.rows) == ("timeout", HANGING, ())
        assert "did not answer" in crash.message
        answer.set()
        thread.join()


def test_a_read_that_takes_long_but_returns_in_time_ends_nothing(redis_client: redis.Redis) -> None:
    limits = WorkerLimits(lease_s=30, batch_timeout_s=600, grace_s=5)
    held = LeaseKeeper(redis_client, JOB, "w", limits, Drain())
    with held:
        control, _ = held.take(1, 10, "a")
        assert control is not None
        with control.disk():
            assert control.hangs(-1.0)
            assert not control.hangs(600)
        assert not control.hangs(-1.0), "nothing is being read"
