"""The benchmark of the search tasks: what it compares, and what it makes of the seconds."""

from __future__ import annotations

import pytest

from benchmarks.search.__main__ import as_text
from benchmarks.search.answering import TOKENS, contexts_of
from benchmarks.search.contest import Contest, of_sizes
from benchmarks.side_by_side.fan_out import measure


def test_answers_that_differ_end_the_benchmark() -> None:
    with pytest.raises(AssertionError, match=r"the answers differ by 0\.5"):
        Contest(1, {}, 0.5)
    with pytest.raises(AssertionError):
        Contest(1, {}, float("nan"))


def test_the_best_peer_is_compared_and_each_batch_size_is_run() -> None:
    asked: list[int] = []

    def peer(size: int) -> float:
        asked.append(size)
        return 12.0

    contest = Contest(24, {"headrace": lambda: 2.0} | of_sizes("peer", peer), 1e-6)
    seconds = measure(contest.runs, rounds=1)
    text = as_text("choice", contest, seconds | {"peer, batch 8": 6.0})
    assert asked == [1, 8, 32] * 2, "one round warms up"
    assert "over the best: 3.00" in text
    assert "12.0 rows/s" in text


def test_contexts_have_the_lengths_that_are_asked_for() -> None:
    found = contexts_of(["some words of a text"] * 5_000)
    assert len(found) > 10
    assert all(4 * TOKENS[0] <= len(context) <= 4 * TOKENS[1] for context in found)
    assert len({len(context) for context in found}) > 10
    assert contexts_of(["too short"]) == []
