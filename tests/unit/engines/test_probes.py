"""Probes reach past what a family cuts rows by, as far as the time goes."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from workers.engines.packed.probes import bounds_of, cut, lengths_to_try, within_time


def row_of(tokens: int) -> Encodings:
    return Encodings(np.arange(tokens, dtype=np.int32), np.array([0, tokens]), np.array([True]))


def test_bounds_are_read_wherever_they_stand() -> None:
    config = {
        "block_size": 64,
        "attention_window": [512, 256],
        "rope_parameters": {"original_max_position_embeddings": 4096, "rope_theta": 10000},
        "hidden_size": 768,
        "use_local": True,
    }
    assert bounds_of(config) == {64, 512, 256, 4096}


@pytest.mark.parametrize(
    ("bounds", "longest", "expected"),
    [
        (set(), 512, (4, 23, 300)),
        ({64}, 4096, (4, 23, 65, 129, 300, 769)),  # BigBird: eleven blocks of 64 and more
        ({512}, 4096, (4, 23, 300, 513, 1025)),
        ({4096}, 512, (4, 23, 300, 512)),
        (set(), 16, (4, 16)),
    ],
)
def test_rows_on_both_sides_of_each_bound(
    bounds: set[int], longest: int, expected: tuple[int, ...]
) -> None:
    assert lengths_to_try(bounds, longest) == expected


def test_rows_cut_from_one_begin_and_end_as_it_does_and_differ() -> None:
    rows = cut(row_of(50), [20, 20, 1, 50])
    assert rows.lengths.tolist() == [20, 20, 1, 50]
    starts, ends = rows.ids[rows.offsets[:-1]], rows.ids[rows.offsets[1:] - 1]
    assert starts.tolist() == [0, 0, 0, 0]
    assert ends.tolist() == [49, 49, 0, 49]
    assert rows.ids[:20].tolist() != rows.ids[20:40].tolist()


def test_lengths_that_would_take_too_long_are_not_begun() -> None:
    now_s = 0.0

    def run(length: int) -> None:
        nonlocal now_s
        now_s += length / 1000

    lengths = (4, 23, 300, 1025)
    assert within_time(lengths, run, lambda: now_s, limit_s=10.0) == [4, 23, 300, 1025]
    # 0.3 s times the square of 3.4 is over the limit
    assert within_time(lengths, run, lambda: now_s, limit_s=3.0) == [4, 23, 300]
    assert within_time(lengths, run, lambda: now_s, limit_s=0.0) == [4]
