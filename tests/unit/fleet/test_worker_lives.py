"""When a worker that ended is started again at once, and when later."""

from __future__ import annotations

import pytest

from workers.fleet.supervisor import backoff_s, is_short


@pytest.mark.parametrize(
    ("lived_s", "exit_code", "short"),
    [(3, 1, True), (11, 1, False), (3, -9, True), (60, -9, False), (60, 0, True), (121, 0, False)],
)
def test_a_worker_that_leaves_by_itself_may_have_needed_longer_to_find_out(
    lived_s: float, exit_code: int, short: bool
) -> None:
    assert is_short(lived_s, exit_code) is short


def test_a_slot_waits_longer_after_each_short_life() -> None:
    assert [backoff_s(n) for n in (0, 1, 2, 3, 9)] == [0, 1, 2, 4, 30]
