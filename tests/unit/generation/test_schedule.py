"""Which prompts start together, and which run again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.generating.base import Prompt
from workers.engines.generating.schedule import Schedule


def schedule(
    lengths: list[int], budget: int = 1000, rows: int = 64, joins: bool = True
) -> Schedule:
    prompts = [Prompt(at, np.zeros(n, dtype=np.int32), "", b"", 5) for at, n in enumerate(lengths)]
    return Schedule(
        prompts, budget_tokens=budget, most_rows=rows, costs=lambda p: len(p.ids) + 5,
        alike=lambda p: len(p.ids), joins=joins,
    )  # fmt: skip


def admitted(it: Schedule) -> list[int]:
    return sorted(prompt.row for prompt in it.admit())


def test_prompts_of_one_length_start_together_and_others_join() -> None:
    it = schedule([3, 7, 3, 9])
    assert [admitted(it) for _ in range(4)] == [[0, 2], [1], [3], []]


def test_without_joining_the_next_wait_until_all_have_ended() -> None:
    it = schedule([3, 7, 3], joins=False)
    assert admitted(it) == [1]  # the longest first
    assert admitted(it) == []
    it.finish([1])
    assert admitted(it) == [0, 2]


def test_rows_and_tokens_bound_what_runs_at_once() -> None:
    assert admitted(schedule([3] * 10, rows=4)) == [0, 1, 2, 3]
    assert admitted(schedule([3] * 10, budget=8 * 3)) == [0, 1, 2]
    assert admitted(schedule([300], budget=8)) == [0]  # a row alone may have more


def test_out_of_memory_means_half_as_many() -> None:
    it = schedule([3] * 8, rows=8)
    assert len(it.admit()) == 8
    assert it.fail(out_of_memory=True) == []
    assert len(it.admit()) == 4
    it = schedule([3])
    it.admit()
    assert [prompt.row for prompt in it.fail(out_of_memory=True)] == [0]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data(), st.booleans())
def test_the_one_row_that_fails_is_found_and_all_others_end(
    lengths: list[int], data: st.DataObject, joins: bool
) -> None:
    bad = data.draw(st.integers(0, len(lengths) - 1))
    it = schedule(lengths, rows=6, joins=joins)
    ended: list[int] = []
    blamed: list[int] = []
    while not it.is_done():
        it.admit()
        if bad in it.running:
            blamed += [prompt.row for prompt in it.fail(out_of_memory=False)]
        else:
            row = next(iter(it.running))
            it.finish([row])
            ended.append(row)
    assert blamed == [bad]
    assert sorted([*ended, bad]) == list(range(len(lengths)))
