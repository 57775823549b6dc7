"""A batch as arrays: filled up, with positions, and with the last token of each row."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from workers.engines.packed.model_inputs import last_tokens, padded, positions

PAD = 1


def batch(*rows: list[int], types: bool = False) -> Encodings:
    ids = np.array([i for row in rows for i in row], dtype=np.int32)
    return Encodings(
        ids=ids,
        offsets=np.cumsum([0, *map(len, rows)]),
        truncated=np.zeros(len(rows), dtype=bool),
        type_ids=np.ones_like(ids) if types else None,
    )


def test_rows_are_filled_up_at_the_right() -> None:
    found = padded(batch([5, 6, 7], [8], types=True), PAD)
    assert found.ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert found.types is not None
    assert found.types.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found.kept.tolist() == [[True] * 3, [True, False, False]]


def test_an_empty_batch_has_no_width() -> None:
    assert padded(batch(), PAD).ids.shape == (0, 0)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [(None, [0, 1, 2, 0, 1]), (PAD, [2, 1, 3, 2, 3])],
)
def test_positions_start_again_with_each_row(padding: int | None, expected: list[int]) -> None:
    assert positions(batch([5, PAD, 7], [8, 9]), padding).tolist() == expected


@pytest.mark.parametrize(("padding", "expected"), [(None, [2, 4]), (PAD, [1, 3])])
def test_the_last_token_is_the_last_that_is_no_padding(
    padding: int | None, expected: list[int]
) -> None:
    assert last_tokens(batch([5, 6, PAD], [PAD, PAD]), padding).tolist() == expected
