"""Bisection finds the rows that kill, and no others; `retry_decision` tells bad chunks from bad nights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.coordination.attempts import (
    attempt_of_death,
    read_attempts,
    record_attempt,
    retry_decision,
    suspect_rows,
)
from headrace.coordination.leases import (
    ENCODING,
    FORWARD,
    HELD,
    READING,
    Mark,
    parse_mark,
)
from headrace.storage.local import LocalStore
from schemas.records.manifest import Attempt


def death(*rows: int, cause: str = "worker_lost", **more: object) -> Attempt:
    return Attempt.model_validate(
        {"chunk": 0, "number": 1, "attempt": "a", "cause": cause, "rows": rows, **more}
    )


def failure(cause: str = "storage_error", **more: object) -> Attempt:
    return death(cause=cause, **more)


# -- the fold


def test_no_attempts_put_no_row_under_suspicion() -> None:
    assert suspect_rows([], 10).groups == ()


def test_the_rows_of_a_death_are_split() -> None:
    groups = suspect_rows([death(*range(100, 200))], 1_000).groups
    assert len(groups) > 1
    assert sorted(r for g in groups for r in g) == list(range(100, 200))


def test_a_death_whose_mark_is_gone_suspects_the_whole_chunk() -> None:
    gone = Attempt(chunk=0, number=1, attempt="a", cause="worker_lost", rows=None)
    assert suspect_rows([gone], 7).suspects == frozenset(range(7))


def test_rows_with_the_tokenizer_are_suspected_too() -> None:
    assert suspect_rows([death(1, 2, encoding=(5, 8))], 10).suspects == {1, 2, 5, 6, 7}


def test_a_storage_failure_says_nothing_about_rows() -> None:
    assert suspect_rows([failure(rows=(3,))], 10).suspects == frozenset()


def test_one_lone_kill_suspects_and_the_second_shows_poison_with_its_own_cause() -> None:
    once = suspect_rows([death(4)], 10)
    assert (once.groups, once.poison) == (((4,),), {})
    twice = suspect_rows([death(4), death(4, cause="timeout")], 10)
    assert (twice.groups, twice.poison) == ((), {4: "timeout"})


def test_two_rows_that_killed_together_are_not_poison_for_one_another() -> None:
    assert suspect_rows([death(4, 5), death(4, 5), death(4, 5)], 10).poison == {}


def test_what_is_left_of_a_wide_set_runs_before_the_narrow_one() -> None:
    groups = suspect_rows([death(*range(8)), death(0, 1)], 10).groups
    assert groups[0] == (2, 3, 4, 5, 6, 7)
    assert set(groups[1:]) == {(0,), (1,)}


# -- the search, simulated


def batches(rows: list[int] | tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(rows), size):
        yield tuple(rows[start : start + size])


def try_once(
    records: list[Attempt], rows: int, poison: set[int], size: int, dies: Callable[[int], bool]
) -> Attempt | None:
    """One attempt on a chunk: its death, or None when every row that is left was computed."""
    s = suspect_rows(records, rows)
    apart = s.suspects | s.poison.keys()
    calm = [r for r in range(rows) if r not in apart]
    work = [*batches(calm, size), *(b for g in s.groups for b in batches(g, size))]
    for batch in work:
        if poison & set(batch) - s.poison.keys() or dies(len(batch)):
            return death(*batch)
    return None


def search(
    rows: int, poison: set[int], size: int, dies: Callable[[int], bool]
) -> tuple[list[Attempt], set[int]]:
    records: list[Attempt] = []
    while (found := try_once(records, rows, poison, size, dies)) is not None:
        records.append(found)
        assert retry_decision(records, rows, 4, 0.0).parked is None
        assert len(records) < 12 * len(poison) + 40
    return records, set(suspect_rows(records, rows).poison)


def never(rows: int) -> bool:
    return False


@pytest.mark.parametrize("size", [1, 7, 64, 256, 1_000])
@pytest.mark.parametrize("row", [0, 1, 499, 500, 998, 999])
def test_one_deadly_row_of_a_thousand_takes_at_most_twelve_attempts(row: int, size: int) -> None:
    records, found = search(1_000, {row}, size, never)
    assert found == {row}
    assert len(records) + 1 <= 12  # the last one makes the part


@given(
    rows=st.integers(1, 1_000),
    size=st.integers(1, 300),
    seed=st.integers(0, 2**32),
    count=st.integers(0, 6),
)
@settings(max_examples=30, deadline=None)
def test_each_further_deadly_row_adds_at_most_twelve(
    rows: int, size: int, seed: int, count: int
) -> None:
    poison = set(random.Random(seed).sample(range(rows), min(count, rows)))
    records, found = search(rows, poison, size, never)
    assert found == poison
    assert len(records) <= 12 * len(poison)


@given(seed=st.integers(0, 2**32), size=st.integers(20, 300), count=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_random_kills_make_no_healthy_row_poison(seed: int, size: int, count: int) -> None:
    rng = random.Random(seed)
    poison = set(rng.sample(range(1_000), count))
    _, found = search(1_000, poison, size, a_bad_night(rng, kills=15))
    assert found == poison


def a_bad_night(rng: random.Random, kills: int) -> Callable[[int], bool]:
    """Kills at random moments, until there were that many; a batch lasts as long as it has rows."""
    left = kills

    def dies(rows: int) -> bool:
        nonlocal left
        hit = left > 0 and rng.random() < rows / 2_000
        left -= hit
        return hit

    return dies


# -- the decision


def test_a_chunk_without_failures_goes_at_once() -> None:
    assert retry_decision([], 10, 4, 0.5).wait_s == 0


def test_a_death_waits_for_nothing() -> None:
    assert retry_decision([failure(), death(1)], 10, 4, 0.5).wait_s == 0


def test_errors_wait_longer_and_longer_up_to_a_minute() -> None:
    waits = [retry_decision([failure()] * n, 10, 100, 1.0).wait_s for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert retry_decision([failure()] * 3, 10, 100, 0.0).wait_s == 2


def test_failures_without_progress_park_with_the_last_reason() -> None:
    decision = retry_decision([failure(message=f"no {n}") for n in range(4)], 10, 4, 0.0)
    assert (decision.parked, decision.message) == ("storage_error", "no 3")


def test_three_failures_do_not_park() -> None:
    assert retry_decision([failure()] * 3, 10, 4, 0.0).parked is None


def test_a_death_that_narrows_starts_the_count_again() -> None:
    tries = [failure(), failure(), failure(), death(*range(5)), failure(), failure(), failure()]
    assert retry_decision(tries, 10, 4, 0.0).parked is None


def test_deaths_that_tell_nothing_new_park() -> None:
    assert retry_decision([death(1, 2)] * 5, 10, 4, 0.0).parked == "worker_lost"


def test_a_chunk_that_kills_before_any_row_is_with_the_model_parks() -> None:
    assert retry_decision([death(stage=READING)] * 4, 10, 4, 0.0).parked == "worker_lost"


def test_what_cannot_be_retried_parks_at_once() -> None:
    tries = [failure("input_changed", retryable=False, message="gone"), death(1)]
    decision = retry_decision(tries, 10, 4, 0.0)
    assert (decision.parked, decision.message) == ("input_changed", "gone")


# -- from marks to records


@pytest.mark.parametrize(
    ("mark", "cause"),
    [
        (Mark("a", "w", FORWARD, (1, 2), None, 100.0, 5.0), "worker_lost"),
        (Mark("a", "w", FORWARD, (1, 2), None, 90.0, 5.0), "timeout"),
        (Mark("a", "w", ENCODING, (), (0, 9), 90.0, 5.0), "timeout"),
        (Mark("a", "w", READING, (), None, 90.0, 5.0), "worker_lost"),
    ],
)
def test_the_cause_of_a_death_is_read_from_its_mark(mark: Mark, cause: str) -> None:
    found = attempt_of_death(3, mark, 100.0, "parent")
    assert found is not None
    assert (found.cause, found.rows, found.encoding) == (cause, mark.rows, mark.encoding)


def test_a_death_before_the_work_began_is_no_attempt() -> None:
    assert attempt_of_death(3, Mark("a", "w", HELD), 100.0, "parent") is None


@given(
    st.builds(
        Mark,
        attempt=st.text(max_size=20),
        worker=st.text(max_size=20),
        stage=st.sampled_from([HELD, READING, FORWARD]),
        rows=st.lists(st.integers(0, 10**6), max_size=50).map(tuple),
        encoding=st.none() | st.tuples(st.integers(0, 99), st.integers(100, 200)),
        since_s=st.floats(0, 2e9),
        limit_s=st.floats(0, 1e6),
    )
)
def test_a_mark_comes_back_as_it_went(mark: Mark) -> None:
    assert parse_mark(mark.dumps()) == mark
    again = parse_mark(mark.dumps())
    assert again is not None
    assert again.dumps() == mark.dumps()  # Redis compares the text


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_what_is_no_mark_is_none(data: bytes | str) -> None:
    assert parse_mark(data) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        '{"attempt":"a"}',
        '{"attempt":"a","worker":"w","rows":["x"]}',
        '{"attempt":"a","worker":"w","encoding":[1]}',
        '{"attempt":1,"worker":"w"}',
        '{"attempt":"a","worker":"w","since_s":"late"}',
    ],
)
def test_a_mark_that_another_wrote_is_none(text: str) -> None:
    assert parse_mark(text) is None


# -- the records


def test_records_are_numbered_in_the_order_they_were_made(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for n in range(12):
        record_attempt(store, death(n, attempt=f"a{n}"))
    found = read_attempts(store, 0)
    assert [(a.number, a.rows) for a in found] == [(n + 1, (n,)) for n in range(12)]


def test_two_who_saw_the_same_death_record_it_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = record_attempt(store, death(1, attempt="x", seen_by="parent"))
    second = record_attempt(store, death(1, attempt="x", seen_by="controller"))
    assert (first, [first]) == (second, read_attempts(store, 0))


def test_records_of_a_chunk_are_not_those_of_its_neighbours(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for chunk in (1, 10, 100_000, 1_000_001):
        record_attempt(store, death(1).model_copy(update={"chunk": chunk}))
    assert [a.chunk for a in read_attempts(store, 10)] == [10]
    assert [a.chunk for a in read_attempts(store, 100_000)] == [100_000]
