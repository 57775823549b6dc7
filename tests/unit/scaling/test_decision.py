"""The number of workers: as a table, and as properties that hold for any night."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.scaling.decision import (
    UNMEASURED_WORKERS,
    Demand,
    Host,
    Limits,
    ScalingDecision,
    WorkerCounts,
    decide_workers,
    share_out,
)

NOW = 1_000_000.0
unhurried = settings(deadline=None)


def demand(work_s: float, chunks: int = 1000, **more: Any) -> Demand:
    """Work for one worker, at 1,000 tokens a second."""
    known = {"job": "j", "queue": "q", "model": "m", "tokens_per_s": 1000.0}
    return Demand(chunks=chunks, backlog_tokens=1000 * work_s, **{**known, **more})


LIMITS = Limits(max_workers=100, startup_s=60, cooldown_s=120, window_s=3600)

TABLE = {
    # name: demands, fleet, limits, before → workers
    "no work, no workers": ([], WorkerCounts(), LIMITS, None, 0),
    "no work, the minimum": ([], WorkerCounts(), replace(LIMITS, min_workers=2), None, 2),
    "a little work wakes one": ([demand(10, 1)], WorkerCounts(), LIMITS, None, 1),
    "ten hours in one, with headroom": ([demand(36_000)], WorkerCounts(), LIMITS, None, 13),
    "never more than chunks": ([demand(36_000, 3)], WorkerCounts(), LIMITS, None, 3),
    "never more than allowed": ([demand(1e9)], WorkerCounts(), LIMITS, None, 100),
    "what is here is enough": ([demand(3_000)], WorkerCounts(busy=1), LIMITS, None, 1),
    "started ones stay while they have work": (
        [demand(3_000)], WorkerCounts(busy=8), LIMITS, ScalingDecision(8, ""), 8,
    ),
    "a deadline in 11 min": (
        [demand(3_000, deadline_s=NOW + 660)], WorkerCounts(), LIMITS, None, 6,
    ),
    "a far deadline needs one": (
        [demand(3_000, deadline_s=NOW + 8 * 3600)], WorkerCounts(), LIMITS, None, 1,
    ),
    "a missed deadline: as many as pay their start": (
        [demand(1_200, deadline_s=NOW - 1)], WorkerCounts(), LIMITS, None, 24,
    ),
    "nothing measured: a few": (
        [demand(1, 10_000, tokens_per_s=None)], WorkerCounts(), LIMITS, None, UNMEASURED_WORKERS,
    ),
    "a budget caps": (
        [demand(1e9)], WorkerCounts(),
        replace(LIMITS, price_per_hour=2.0, budget_per_hour=9.0), None, 4,
    ),
    "a lower priority waits behind": (
        [demand(36_000, priority=1), demand(60, deadline_s=NOW + 3_600)], WorkerCounts(), LIMITS, None, 13,
    ),
    "a higher priority does not wait": (
        [demand(36_000, deadline_s=NOW + 36_000), demand(60, priority=1)], WorkerCounts(), LIMITS, None, 2,
    ),
    "a small job among equals waits for its own share only": (
        [demand(72_000, deadline_s=NOW + 72_000), demand(60, deadline_s=NOW + 180)],
        WorkerCounts(), LIMITS, None, 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str) -> None:
    demands, fleet, limits, before, expected = TABLE[name]
    assert decide_workers(demands, fleet, limits, NOW, before).workers == expected


def test_idle_workers_go_after_the_cooldown_and_not_before() -> None:
    wanted = decide_workers([], WorkerCounts(idle=5), LIMITS, NOW, ScalingDecision(5, ""))
    assert wanted.workers == 5
    wanted = decide_workers([], WorkerCounts(idle=5), LIMITS, NOW + 119, wanted)
    assert wanted.workers == 5
    assert decide_workers([], WorkerCounts(idle=5), LIMITS, NOW + 120, wanted).workers == 0


def test_work_that_comes_within_the_cooldown_keeps_the_workers() -> None:
    wanted = decide_workers([], WorkerCounts(idle=5), LIMITS, NOW, ScalingDecision(5, ""))
    wanted = decide_workers([demand(100, 9)], WorkerCounts(idle=5), LIMITS, NOW + 100, wanted)
    assert wanted.surplus_since_s is None
    assert decide_workers([], WorkerCounts(idle=5), LIMITS, NOW + 130, wanted).workers == 5


def test_a_busy_worker_is_not_sent_away_at_the_tail() -> None:
    before = ScalingDecision(8, "", surplus_since_s=NOW - 500)
    assert (
        decide_workers([demand(50, 2)], WorkerCounts(busy=3, idle=5), LIMITS, NOW, before).workers
        == 3
    )


def test_times_next_to_nothing_are_numbers_too() -> None:
    late = [demand(1, deadline_s=NOW - 1)]
    assert decide_workers(late, WorkerCounts(), replace(LIMITS, startup_s=5e-324), NOW).workers == 1
    soon = [demand(1e9, deadline_s=NOW + 60.0000001)]
    assert decide_workers(soon, WorkerCounts(), LIMITS, NOW).workers == 100


def test_workers_on_their_way_are_not_asked_for_twice() -> None:
    work = [demand(2_000, deadline_s=NOW + 200)]
    limits = replace(LIMITS, startup_s=100)
    first = decide_workers(work, WorkerCounts(), limits, NOW)
    assert decide_workers(work, WorkerCounts(), limits, NOW + 15, first).workers == first.workers


@pytest.mark.parametrize(
    ("work_s", "time_s", "at_risk"),
    [
        (10_000, 3_600, False),
        (300_000, 3_600, False),
        (330_000, 3_600, True),
        (10, -5, True),
        (10, 30, True),  # nothing is there, and a start takes a minute
    ],
)
def test_a_deadline_that_cannot_be_met_is_said_at_once(
    work_s: float, time_s: float, at_risk: bool
) -> None:
    wanted = decide_workers([demand(work_s, deadline_s=NOW + time_s)], WorkerCounts(), LIMITS, NOW)
    assert wanted.deadline_at_risk is at_risk


def test_the_reason_is_for_people() -> None:
    wanted = decide_workers(
        [demand(330_000, deadline_s=NOW + 3_600)],
        WorkerCounts(),
        replace(LIMITS, price_per_hour=1.5),
        NOW,
    )
    assert wanted.reason == (
        "91.7 h of work for one worker, deadline in 60 min cannot be met safely, "
        "100 is the limit, about 137.50 to pay"
    )
    assert decide_workers([], WorkerCounts(), LIMITS, NOW).reason == "no work"


def test_a_deadline_that_has_passed_is_at_risk_whatever_was_measured() -> None:
    def answer(deadline_s: float, chunks: int = 3) -> bool:
        left = Demand("j", "q", "m", chunks, 1e6, None, 0, deadline_s)
        return decide_workers(
            [left], WorkerCounts(1), Limits(max_workers=2), 100.0
        ).deadline_at_risk

    assert [answer(99.0), answer(101.0), answer(99.0, chunks=0)] == [True, False, False]


# -- properties

demands = st.builds(
    Demand,
    job=st.just("j"),
    queue=st.just("q"),
    model=st.just("m"),
    chunks=st.integers(0, 5_000),
    backlog_tokens=st.floats(0, 1e9),
    tokens_per_s=st.none() | st.floats(1, 1e6),
    priority=st.integers(-2, 2),
    deadline_s=st.none() | st.floats(NOW - 1_000, NOW + 40_000),
)
fleets = st.builds(WorkerCounts, busy=st.integers(0, 60), idle=st.integers(0, 60))
limits = st.builds(
    Limits,
    min_workers=st.integers(0, 5),
    max_workers=st.integers(5, 1_000),
    startup_s=st.floats(0, 900),
    cooldown_s=st.floats(0, 900),
    window_s=st.floats(60, 40_000),
)
befores = st.none() | st.builds(
    ScalingDecision,
    st.integers(0, 1_000),
    st.just(""),
    st.booleans(),
    st.none() | st.floats(NOW - 1_000, NOW),
    st.none() | st.floats(NOW - 1_000, NOW),
)
jobs = st.lists(demands, max_size=4)


@unhurried
@given(jobs, fleets, limits, befores)
def test_the_answer_is_within_the_limits(
    jobs: list[Demand], fleet: WorkerCounts, limits: Limits, before: ScalingDecision | None
) -> None:
    wanted = decide_workers(jobs, fleet, limits, NOW, before)
    assert limits.min_workers <= wanted.workers <= limits.most
    assert wanted.reason


@unhurried
@given(jobs, fleets, limits)
def test_a_constant_input_never_changes_the_answer(
    jobs: list[Demand], fleet: WorkerCounts, limits: Limits
) -> None:
    first = decide_workers(jobs, fleet, limits, NOW, None)
    again = first
    for _ in range(3):
        again = decide_workers(jobs, fleet, limits, NOW, again)
        assert again.workers == first.workers


@unhurried
@given(jobs, limits, st.floats(0.5, 60))
def test_at_a_constant_backlog_the_number_never_turns_round(
    jobs: list[Demand], limits: Limits, tick_s: float
) -> None:
    """Time goes on, a deadline comes nearer, workers start as asked: up or down, never both."""
    steps: list[int] = []
    wanted: ScalingDecision | None = None
    fleet = WorkerCounts(idle=3)
    for n in range(12):
        wanted = decide_workers(jobs, fleet, limits, NOW + n * tick_s, wanted)
        steps.append(wanted.workers)
        chunks = sum(d.chunks for d in jobs)
        busy = min(wanted.workers, chunks)
        fleet = WorkerCounts(busy, wanted.workers - busy)
    assert steps in (sorted(steps), sorted(steps, reverse=True))


@unhurried
@given(jobs, fleets, limits, befores, st.floats(1, 100), st.data())
def test_more_work_never_wants_fewer_workers(
    jobs: list[Demand],
    fleet: WorkerCounts,
    limits: Limits,
    before: ScalingDecision | None,
    factor: float,
    data: st.DataObject,
) -> None:
    if not jobs:
        return
    at = data.draw(st.integers(0, len(jobs) - 1))
    more = list(jobs)
    more[at] = replace(
        jobs[at],
        backlog_tokens=jobs[at].backlog_tokens * factor,
        chunks=int(jobs[at].chunks * factor),
    )
    few = decide_workers(jobs, fleet, limits, NOW, before).workers
    assert decide_workers(more, fleet, limits, NOW, before).workers >= few


@unhurried
@given(fleets, limits, befores)
def test_without_work_the_minimum_is_reached_and_kept(
    fleet: WorkerCounts, limits: Limits, before: ScalingDecision | None
) -> None:
    fleet = WorkerCounts(0, fleet.live)
    wanted = decide_workers([], fleet, limits, NOW, before)
    for later_s in (limits.cooldown_s, 2 * limits.cooldown_s + 1, 3 * limits.cooldown_s + 2):
        wanted = decide_workers([], fleet, limits, NOW + later_s + 0.001, wanted)
    assert wanted.workers == limits.min_workers


@unhurried
@given(jobs, fleets, limits, befores)
def test_a_busy_worker_goes_only_by_a_limit(
    jobs: list[Demand], fleet: WorkerCounts, limits: Limits, before: ScalingDecision | None
) -> None:
    wanted = decide_workers(jobs, fleet, limits, NOW, before)
    held = min(limits.most, before.workers if before else fleet.live)
    assert wanted.workers >= min(held, fleet.busy)


# -- several hosts

hosts = st.lists(
    st.builds(Host, st.text("abcdef", min_size=1), st.integers(0, 16), st.integers(0, 16)),
    unique_by=lambda h: h.name,
    max_size=6,
)


@unhurried
@given(st.integers(0, 100), hosts)
def test_all_workers_are_shared_out_and_no_host_gets_more_than_it_holds(
    workers: int, hosts: list[Host]
) -> None:
    shares = share_out(workers, hosts)
    assert sum(shares.values()) == min(workers, sum(h.slots for h in hosts))
    assert all(shares[h.name] <= h.slots for h in hosts)


@unhurried
@given(st.integers(0, 100), hosts)
def test_shares_stay_once_they_run(workers: int, hosts: list[Host]) -> None:
    shares = share_out(workers, hosts)
    running = [replace(h, running=shares[h.name]) for h in hosts]
    assert share_out(workers, running) == shares
