"""What goes to the queue next: bounded, by priority, fairly, in runs of neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.window import Claim, Run, choose, run_length, to_be_passed, window_size
from schemas.message import MAX_RUN


def claim(job: str, *ready: int, priority: int = 0, flying: int = 0, left: int = 0) -> Claim:
    return Claim(job, priority, ready, flying, left or len(ready))


@pytest.mark.parametrize(("workers", "messages"), [(0, 64), (16, 64), (17, 68), (100, 400)])
def test_the_window_is_four_messages_a_worker_and_at_least_64(workers: int, messages: int) -> None:
    assert window_size(workers) == messages


@pytest.mark.parametrize(
    ("remaining", "workers", "length"),
    [(0, 1, 1), (3, 1, 1), (8, 1, 2), (1_000, 1, 8), (1_000, 100, 2), (399, 100, 1), (9, 0, 2)],
)
def test_runs_are_long_in_the_middle_and_short_at_the_end(
    remaining: int, workers: int, length: int
) -> None:
    assert run_length(remaining, workers) == length


def test_higher_priority_goes_first_and_alone() -> None:
    runs = choose([claim("a", 0, 1), claim("b", 0, 1, priority=5)], 3, workers=4)
    assert [r.job for r in runs] == ["b", "b", "a"]


def test_equals_take_turns() -> None:
    runs = choose([claim("a", *range(9)), claim("b", *range(9))], 6, workers=9)
    assert [r.job for r in runs] == ["a", "b", "a", "b", "a", "b"]


def test_a_newcomer_catches_up_with_who_has_most_in_flight() -> None:
    runs = choose([claim("old", *range(9), flying=3), claim("new", *range(9))], 4, workers=9)
    assert [r.job for r in runs] == ["new", "new", "new", "new"]


def test_a_run_stops_at_a_gap() -> None:
    runs = choose([claim("a", 0, 1, 2, 7, 8, left=1_000)], 9, workers=1)
    assert [r.chunks for r in runs] == [(0, 1, 2), (7, 8)]


def test_a_chunk_that_died_before_goes_alone() -> None:
    lone = Claim("a", 0, (0, 1, 2, 3), 0, 1_000, alone=frozenset({1}))
    runs = choose([lone], 9, workers=1)
    assert [r.chunks for r in runs] == [(0,), (1,), (2, 3)]


def test_nothing_ready_sends_nothing() -> None:
    assert choose([claim("a"), claim("b")], 64, 1) == []


claims = st.lists(
    st.builds(
        lambda job, priority, ready, flying, more: Claim(
            job, priority, tuple(sorted(ready)), flying, flying + len(ready) + more
        ),
        st.sampled_from("abcdef"),
        st.integers(-2, 2),
        st.sets(st.integers(0, 60), max_size=40),
        st.integers(0, 50),
        st.integers(0, 10_000),
    ),
    max_size=6,
    unique_by=lambda c: c.job,
)


@given(claims, st.integers(0, 80), st.integers(1, 30))
def test_what_is_chosen_was_ready_once_and_never_more_than_fits(
    found: list[Claim], messages: int, workers: int
) -> None:
    runs = choose(found, messages, workers)
    assert len(runs) <= messages
    assert all(1 <= len(r.chunks) <= MAX_RUN for r in runs)
    assert all(list(r.chunks) == list(range(r.chunks[0], r.chunks[-1] + 1)) for r in runs)
    sent = [(r.job, c) for r in runs for c in r.chunks]
    assert len(sent) == len(set(sent))
    assert set(sent) <= {(c.job, n) for c in found for n in c.ready}
    if len(runs) < messages:
        assert len(sent) == sum(len(c.ready) for c in found)


@given(claims, st.integers(1, 80))
def test_no_lower_priority_while_a_higher_one_is_ready(found: list[Claim], messages: int) -> None:
    by_job = {c.job: c.priority for c in found}
    order = [by_job[r.job] for r in choose(found, messages, 4)]
    assert order == sorted(order, reverse=True)


def test_a_run_is_a_value() -> None:
    assert Run("a", (1,)) == Run("a", (1,))


def test_runs_grow_shorter_towards_the_end_of_a_job() -> None:
    claim = Claim("a", 0, tuple(range(35)), in_flight=0, remaining=35)
    lengths = [len(run.chunks) for run in choose([claim], messages=64, workers=2)]
    assert sum(lengths) == 35
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 4
    assert lengths[-8:] == [1] * 8


@pytest.mark.parametrize(
    ("claims", "passed"),
    [
        ([claim("old", flying=64)], set()),
        ([claim("old", 1, flying=64), claim("urgent", 0, priority=5)], {"old"}),
        ([claim("old", flying=64), claim("urgent", priority=5, flying=3)], set()),
        ([claim("old", 1, flying=64), claim("new", 0)], {"old"}),
        ([claim("old", 1, flying=64), claim("new", 0, flying=1)], set()),
        ([claim("old", 1, priority=1, flying=64), claim("new", 0)], set()),
    ],
    ids=["alone", "urgent", "nothing ready", "equal newcomer", "equal that has some", "lower"],
)
def test_who_makes_room_for_whom(claims: list[Claim], passed: set[str]) -> None:
    assert to_be_passed(claims) - {"new"} == passed
