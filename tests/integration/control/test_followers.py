"""A job says who follows it: controllers with a Redis each do not compute it twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.queue.embedded_redis import EmbeddedRedis
from producers.records.follower import (
    GONE_S,
    RENEW_S,
    Follower,
    Followers,
    claim,
    read_follower,
    this_process,
    write_follower,
)
from schemas.names import output_layout
from tests.fake_jobs import FakeJob
from tests.integration.controller_house import House

Wait = Callable[..., Any]


class Clock:
    """A monotonic clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[House]:
    """A house with a Redis of its own."""
    (tmp_path / "other").mkdir()
    with EmbeddedRedis(tmp_path / "other") as server:
        found = House(server.url)
        yield found
        found.close()


def other_process(**changes: Any) -> Follower:
    """As another host would write it."""
    me = this_process("controller-other", redis="another", renewed=1)
    return me.model_copy(update={"host": "another-host", **changes})


def test_a_standing_controller_leaves_a_job_to_the_one_that_follows_it(
    house: House, elsewhere: House, job: FakeJob, wait_until: Wait
) -> None:
    house.follow(job)
    # as another process would have it: the house's own record would be this process's
    found = read_follower(job.store)
    assert found is not None
    assert found.controller == house.controller.name
    write_follower(job.store, found.model_copy(update={"pid": os.getppid()}))
    elsewhere.follow(job)
    assert elsewhere.controller.tracked == {}
    assert elsewhere.queued(job) == set(), "nothing is published twice"
    wait_until(house.until_ended(job))
    assert job.store.head(output_layout.FOLLOWER) is None
    elsewhere.controller.tick()
    assert len({info.name for info in job.store.list(output_layout.ATTEMPTS)}) == 0


def test_a_job_whose_follower_has_died_here_is_followed_at_once(
    house: House, job: FakeJob, wait_until: Wait
) -> None:
    write_follower(job.store, this_process("dead", "another").model_copy(update={"pid": 2**22 - 1}))
    house.follow(job)
    assert list(house.controller.tracked) == [job.job.key]
    found = read_follower(job.store)
    assert found is not None
    assert (found.controller, found.pid) == (house.controller.name, os.getpid())


def test_two_controllers_of_one_redis_are_left_to_its_lock(house: House, job: FakeJob) -> None:
    house.follow(job)
    found = read_follower(job.store)
    assert found is not None
    write_follower(job.store, found.model_copy(update={"host": "another-host"}))
    followers = Followers("controller-two", house.client)
    assert followers.may_follow(job.job.key, job.store)


def test_on_another_host_a_follower_is_gone_when_its_record_no_longer_changes(
    house: House, job: FakeJob
) -> None:
    clock = Clock()
    followers = Followers("me", house.client, clock)
    key = job.job.key
    for renewed in range(10):  # it lives: however its own clock runs, the record changes
        write_follower(job.store, other_process(renewed=renewed))
        assert not followers.may_follow(key, job.store)
        clock.now += GONE_S - 1
    clock.now += 2
    assert followers.may_follow(key, job.store), "the last change is longer ago"


def test_our_record_is_renewed_now_and_then_and_deleted_at_the_end(
    house: House, job: FakeJob
) -> None:
    clock = Clock()
    followers = Followers("me", house.client, clock)
    key, seen = job.job.key, []
    for _ in range(4):
        followers.renew(key, job.store)
        found = read_follower(job.store)
        assert found is not None
        seen.append(found.renewed)
        clock.now += RENEW_S / 2
    assert seen == [1, 1, 2, 2]
    write_follower(job.store, other_process())
    followers.leave(key, job.store)
    assert read_follower(job.store) == other_process(), "another's record is not ours to delete"


def test_a_command_claims_a_job_before_others_can_find_it(job: FakeJob) -> None:
    claim(job.store)
    found = read_follower(job.store)
    assert found is not None
    assert found.pid == os.getpid()
    write_follower(job.store, other_process())
    claim(job.store)
    assert read_follower(job.store) == other_process()


def test_a_job_that_has_ended_is_claimed_by_no_process(job: FakeJob) -> None:
    job.store.create(output_layout.MANIFEST, b"{}")
    claim(job.store)
    assert read_follower(job.store) is None


@pytest.mark.parametrize("junk", [b"{", b"[]", b'{"controller": 3}', b"\xff"])
def test_an_unreadable_record_stops_no_follower(house: House, job: FakeJob, junk: bytes) -> None:
    job.store.create(output_layout.FOLLOWER, junk)
    house.follow(job)
    assert list(house.controller.tracked) == [job.job.key]
