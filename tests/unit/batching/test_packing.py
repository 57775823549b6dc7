"""Batches under a budget of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.batching.packing import (
    Budget,
    halves,
    pack,
)

LENGTHS = st.lists(st.integers(0, 600), max_size=200).map(lambda rows: np.array(rows, dtype=int))


@given(lengths=LENGTHS, budget=st.integers(1, 3000), padded=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_batch_within_the_budget_or_alone(
    lengths: np.ndarray, budget: int, padded: bool
) -> None:
    batches = pack(lengths, budget, padded=padded)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        rows = lengths[batch]
        cost = len(rows) * rows.max() if padded else rows.sum()
        assert len(batch) == 1 or cost <= budget
    flat = np.concatenate([lengths[batch] for batch in batches]) if batches else lengths
    assert (np.diff(flat) <= 0).all(), "longest first"


def test_padding_counts_only_where_there_is_padding() -> None:
    lengths = np.array([10, 1, 1, 1, 1])
    assert [len(b) for b in pack(lengths, 20, padded=True)] == [2, 3]
    assert [len(b) for b in pack(lengths, 20, padded=False)] == [5]


SKEWED = np.random.default_rng(7).lognormal(3.2, 1.1, 8_192).clip(4, 512).astype(np.int64)
"""Tokens of rows: half have under 25, one in fifty over 200."""


@pytest.mark.parametrize("budget", [2_048, 8_192, 32_768])
@pytest.mark.parametrize("rows", [1_024, 8_192])
def test_under_three_in_a_hundred_tokens_of_skewed_rows_are_padding(rows: int, budget: int) -> None:
    """In a window of long rows and in a full one, with budgets of CPUs and of GPUs."""
    lengths = SKEWED[:rows]
    batches = pack(lengths, budget, padded=True)
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert computed - lengths.sum() < 0.03 * computed
    assert lengths.sum() / len(batches) > 600, "no batch for each length"


def test_few_rows_of_about_one_length_stay_together() -> None:
    assert len(pack(np.array([20, 19, 18, 17, 12, 11, 11]), 2_048, padded=True)) == 2


def test_a_batch_that_ends_for_its_padding_leaves_rows_of_one_length_together() -> None:
    """As the pairs of a text with its labels are."""
    lengths = np.repeat([44, 40, 24, 18, 13], 10)
    assert [len(b) for b in pack(lengths, 2_048, padded=True)] == [10] * 5


def test_a_row_too_long_gets_its_own_batch() -> None:
    batches = pack(np.array([5, 900, 5]), 100, padded=False)
    assert [b.tolist() for b in batches] == [[1], [0, 2]]


def test_rows_of_one_length_keep_their_order() -> None:
    assert pack(np.array([3, 3, 3, 3]), 6, padded=True)[1].tolist() == [2, 3]


def test_no_rows_are_no_batches() -> None:
    assert pack(np.array([], dtype=np.int64), 10, padded=True) == []


def test_empty_rows_do_not_make_an_endless_batch() -> None:
    assert [len(b) for b in pack(np.zeros(100, dtype=int), 10, padded=False)] == [10] * 10


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        pack(np.array([1]), 0, padded=True)


def test_out_of_memory_halves_the_budget_and_is_remembered() -> None:
    budget = Budget(4096).after_out_of_memory(4000)
    assert budget.tokens == 2000
    assert budget.failed_at == 4000
    assert budget.after_out_of_memory(3000).tokens == 1500
    assert Budget(1).after_out_of_memory(1).tokens == 1


def test_halves_keep_every_row() -> None:
    assert [h.tolist() for h in halves(np.array([7, 8, 9]))] == [[7, 8], [9]]
    assert [h.tolist() for h in halves(np.array([7]))] == [[7]]
