"""What goes to the queue next: bounded, by priority, fairly, in runs of neighbours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.control.dispatch_window import (
    LOADS_PER_TURN,
    ChunkRun,
    JobDemand,
    ModelTurn,
    preempted,
    run_length,
    select_runs,
    turn_of,
    window_size,
    yielding,
)
from schemas.records.message import MAX_RUN


def claim(job: str, *ready: int, priority: int = 0, flying: int = 0, left: int = 0) -> JobDemand:
    return JobDemand(job, priority, ready, flying, left or len(ready))


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
    runs = select_runs([claim("a", 0, 1), claim("b", 0, 1, priority=5)], 3, workers=4)[0]
    assert [r.job for r in runs] == ["b", "b", "a"]


def test_equals_take_turns() -> None:
    runs = select_runs([claim("a", *range(9)), claim("b", *range(9))], 6, workers=9)[0]
    assert [r.job for r in runs] == ["a", "b", "a", "b", "a", "b"]


def test_a_newcomer_catches_up_with_who_has_most_in_flight() -> None:
    runs = select_runs([claim("old", *range(9), flying=3), claim("new", *range(9))], 4, workers=9)[
        0
    ]
    assert [r.job for r in runs] == ["new", "new", "new", "new"]


def test_a_run_stops_at_a_gap() -> None:
    runs = select_runs([claim("a", 0, 1, 2, 7, 8, left=1_000)], 9, workers=1)[0]
    assert [r.chunks for r in runs] == [(0, 1, 2), (7, 8)]


def test_a_chunk_that_died_before_goes_alone() -> None:
    lone = JobDemand("a", 0, (0, 1, 2, 3), 0, 1_000, alone=frozenset({1}))
    runs = select_runs([lone], 9, workers=1)[0]
    assert [r.chunks for r in runs] == [(0,), (1,), (2, 3)]


def test_nothing_ready_sends_nothing() -> None:
    assert select_runs([claim("a"), claim("b")], 64, 1) == ([], None)


claims = st.lists(
    st.builds(
        lambda job, priority, ready, flying, more, model: JobDemand(
            job, priority, tuple(sorted(ready)), flying, flying + len(ready) + more, model=model
        ),
        st.sampled_from("abcdef"),
        st.integers(-2, 2),
        st.sets(st.integers(0, 60), max_size=40),
        st.integers(0, 50),
        st.integers(0, 10_000),
        st.sampled_from(["m", "n"]),
    ),
    max_size=6,
    unique_by=lambda c: c.job,
)


@given(claims, st.integers(0, 80), st.integers(1, 30))
def test_what_is_chosen_was_ready_once_and_never_more_than_fits(
    found: list[JobDemand], messages: int, workers: int
) -> None:
    runs = select_runs(found, messages, workers)[0]
    assert len(runs) <= messages
    assert all(1 <= len(r.chunks) <= MAX_RUN for r in runs)
    assert all(list(r.chunks) == list(range(r.chunks[0], r.chunks[-1] + 1)) for r in runs)
    sent = [(r.job, c) for r in runs for c in r.chunks]
    assert len(sent) == len(set(sent))
    assert set(sent) <= {(c.job, n) for c in found for n in c.ready}
    if len(runs) < messages:
        assert len(sent) == sum(len(c.ready) for c in found)


@given(claims, st.integers(1, 80))
def test_no_lower_priority_while_a_higher_one_is_ready(
    found: list[JobDemand], messages: int
) -> None:
    by_job = {c.job: c.priority for c in found}
    order = [by_job[r.job] for r in select_runs(found, messages, 4)[0]]
    assert order == sorted(order, reverse=True)


def test_a_run_is_a_value() -> None:
    assert ChunkRun("a", (1,)) == ChunkRun("a", (1,))


def test_runs_grow_shorter_towards_the_end_of_a_job() -> None:
    claim = JobDemand("a", 0, tuple(range(35)), in_flight=0, remaining=35)
    lengths = [len(run.chunks) for run in select_runs([claim], messages=64, workers=2)[0]]
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
def test_who_makes_room_for_whom(claims: list[JobDemand], passed: set[str]) -> None:
    assert preempted(claims) - {"new"} == passed


@pytest.mark.parametrize(
    ("other", "waits"),
    [
        (claim("new", 0, priority=5), True),
        (claim("new", 0, priority=5, flying=3), True),
        (claim("new", priority=5, left=9), False),  # nothing to send, or its store is away
        (claim("new", 0), True),
        (claim("new", 0, flying=1), False),
        (claim("new", 0, priority=-1), False),
    ],
)
def test_who_goes_first_at_another_controller_is_waited_for(other: JobDemand, waits: bool) -> None:
    assert yielding([claim("old", 1, flying=2)], [other]) == ({"old"} if waits else set())


def test_two_controllers_with_new_equals_do_not_wait_for_one_another() -> None:
    a, b = claim("a", 0), claim("b", 0)
    assert yielding([a], [b]) == yielding([b], [a]) == frozenset()


# -- jobs with different models


def large(job: str, model: str, flying: int = 1, **more: Any) -> JobDemand:
    """A night's corpus: more ready than any window takes."""
    return JobDemand(job, 0, tuple(range(900)), flying, 10_000, model=model, **more)


@pytest.mark.parametrize(
    ("load_s", "chunk_s", "run", "workers", "models", "messages"),
    [
        (15, 30, 8, 2, 2, 2),  # a message is 240 s: one for each worker is enough
        (15, 30, 1, 2, 2, 10),  # 150 s of work for each of two, in messages of 30 s
        (60, 1, 8, 2, 2, 32),  # more than half of the window would be needed
        (60, 1, 8, 2, 5, 12),  # five turns must fit into it
        (0, 30, 8, 4, 2, 4),
    ],
)
def test_a_turn_is_ten_loads_of_work_for_each_worker(
    load_s: float, chunk_s: float, run: int, workers: int, models: int, messages: int
) -> None:
    claim = large("a", "m", load_s=load_s, chunk_s=chunk_s)
    assert turn_of(claim, run, workers, models) == ModelTurn("m", messages)


def test_equals_of_different_models_take_turns_of_many_messages() -> None:
    both = [large("a", "m"), large("b", "n", flying=2)]
    runs, turn = select_runs(both, 6, workers=2)
    assert [r.job for r in runs] == ["a", "a", "b", "b", "a", "a"]
    assert turn == ModelTurn("m", 0, ("n",))


def test_a_turn_goes_on_where_the_last_tick_left_it() -> None:
    both = [large("a", "m", flying=9), large("b", "n")]
    runs, turn = select_runs(both, 3, workers=2, turn=ModelTurn("m", 2))
    assert [r.job for r in runs] == ["a", "a", "b"]
    assert turn == ModelTurn("n", 1, ("m",))


def test_a_newcomer_does_not_wait_for_the_end_of_a_turn() -> None:
    runs, _ = select_runs([large("a", "m"), large("b", "n", flying=0)], 1, 2, ModelTurn("m", 30))
    assert [r.job for r in runs] == ["b"]


def test_a_higher_priority_does_not_wait_either() -> None:
    urgent = JobDemand("u", 5, (0,), 1, 2, model="n")
    runs, _ = select_runs([large("a", "m"), urgent], 2, 2, ModelTurn("m", 30))
    assert [r.job for r in runs] == ["u", "a"]


def test_jobs_of_one_model_share_its_turn() -> None:
    runs, _ = select_runs([large("a", "m"), large("b", "m")], 4, workers=2)
    assert [r.job for r in runs] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("workers", [1, 2, 8, 40])
@pytest.mark.parametrize("models", [2, 3, 5])
def test_workers_hardly_ever_load_and_every_job_moves_on(workers: int, models: int) -> None:
    """A queue in order, workers that keep their last model, the window topped up at each step."""
    load_s, chunk_s = 15.0, 30.0
    night = Night(models, workers, load_s, chunk_s)
    while night.done < 800 * workers:
        night.step()
    share = night.loads * load_s / (night.done * chunk_s + night.loads * load_s)
    assert share < 1.5 / LOADS_PER_TURN
    assert min(night.sent) > 0.7 * max(night.sent)


class Night:
    """Jobs of different models on one queue, played with the pure functions alone."""

    def __init__(self, models: int, workers: int, load_s: float, chunk_s: float) -> None:
        self.cost = {"load_s": load_s, "chunk_s": chunk_s}
        self.workers = [("", 0.0)] * workers
        self.queue: list[ChunkRun] = []
        self.sent = [0] * models
        self.ended = [0] * models
        self.turn: ModelTurn | None = None
        self.loads = self.done = 0

    def step(self) -> None:
        """Top the window up, and let the worker that is free first take a message."""
        claims = [
            JobDemand(str(n), 0, tuple(range(s, s + 900)), s - e, 10**6, model=f"m{n}", **self.cost)
            for n, (s, e) in enumerate(zip(self.sent, self.ended, strict=True))
        ]
        assert len(preempted(claims)) == (len(claims) if not self.queue else 0)
        free = window_size(len(self.workers)) - len(self.queue)
        runs, self.turn = select_runs(claims, free, len(self.workers), self.turn)
        for run in runs:
            self.sent[int(run.job)] += len(run.chunks)
        self.queue += runs
        run = self.queue.pop(0)
        self.ended[int(run.job)] += len(run.chunks)
        at = min(range(len(self.workers)), key=lambda n: self.workers[n][1])
        model, free_s = self.workers[at]
        self.loads += model != run.job
        self.done += len(run.chunks)
        spent = len(run.chunks) * self.cost["chunk_s"]
        self.workers[at] = (run.job, free_s + spent)
