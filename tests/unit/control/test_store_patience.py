"""How long a store may fail: the time without a success, not the number of failures."""

from __future__ import annotations

import pytest

from producers.control.store_patience import StorePatience


@pytest.mark.parametrize(
    ("seen", "over"),
    [
        ([(0, True, 0), (9, True, 0)], False),
        ([(0, True, 0), (10, True, 0)], True),
        (
            [(0, True, 0), (6, False, 0), (10, True, 0), (19, True, 0)],
            False,
        ),  # it worked in between
        ([(0, True, 0), (6, True, 50), (12, True, 50)], False),  # rows came
        ([(0, True, 0), (6, True, 50), (16, True, 50)], True),
        ([(0, True, 50), (6, True, 0), (10, True, 50)], True),  # read with the store away: 0 rows
        ([(0, False, 0), (100, False, 0)], False),
        ([(100, True, 0)], False),
    ],
)
def test_patience_ends_after_its_limit_without_progress(
    seen: list[tuple[float, bool, int]], over: bool
) -> None:
    patience = StorePatience(10)
    found = [patience.is_over(fails=fails, rows=rows, now=now) for now, fails, rows in seen]
    assert found == [False] * (len(seen) - 1) + [over]


def test_without_patience_the_first_failure_is_the_last() -> None:
    assert StorePatience(0).is_over(fails=True, rows=0, now=5.0)
