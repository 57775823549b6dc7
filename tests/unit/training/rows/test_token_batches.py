"""Batches by tokens: every row once an epoch, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.training.rows.token_batches import TokenBatches, default_budget


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=80), st.integers(64, 400), st.integers(0, 3)
)
def test_every_row_is_seen_once_an_epoch_within_the_budget(
    lengths: list[int], budget: int, seed: int
) -> None:
    rows = np.arange(len(lengths)) + 100
    batches = TokenBatches(rows, np.array(lengths), budget, 2, seed)
    found = list(batches)
    assert len(found) == len(batches)
    assert found == list(batches)
    for batch in found:
        widths = [lengths[row - 100] for row in batch]
        assert max(widths) * len(widths) <= budget
    for start, end in ((0, batches.ends[0]), (batches.ends[0], batches.ends[1])):
        assert sorted(row for batch in found[start:end] for row in batch) == rows.tolist()


def test_another_epoch_has_other_batches() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    batches = TokenBatches(np.arange(500), lengths, 512, 2, 0)
    found = [tuple(sorted(batch)) for batch in batches]
    first, second = set(found[: batches.ends[0]]), set(found[batches.ends[0] :])
    assert len(first & second) < len(first) / 2


def test_little_is_lost_to_padding_on_skewed_lengths() -> None:
    lengths = np.minimum(512, np.random.default_rng(0).lognormal(3, 1, 5_000)).astype(int) + 3
    batches = TokenBatches(np.arange(5_000), lengths, 4_096, 1, 0)
    padded = sum(max(lengths[batch]) * len(batch) for batch in batches)
    assert lengths.sum() / padded > 0.9


def test_half_an_epoch_is_half_its_batches() -> None:
    lengths = np.full(100, 10)
    assert len(TokenBatches(np.arange(100), lengths, 100, 1.5, 0)) == 15


def test_few_rows_are_still_seen_in_many_steps() -> None:
    few, many = np.full(400, 20), np.full(400_000, 20)
    assert len(TokenBatches(np.arange(400), few, default_budget(few, 3), 3, 0)) == 150
    assert default_budget(many, 3) == 4_096
