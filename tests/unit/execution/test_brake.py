"""A worker waits longer for each chunk that failed in a row, and knows why the message ends early."""

from __future__ import annotations

import pytest

from workers.execution.drain import MOST_BRAKE_S, Brake, Drain


def test_it_waits_twice_as_long_for_each_failure_up_to_a_limit() -> None:
    brake, waits = Brake(Drain()), []
    for _ in range(8):
        brake.failed()
        waits.append(brake.wait_s())
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, MOST_BRAKE_S, MOST_BRAKE_S, MOST_BRAKE_S]


@pytest.mark.parametrize("store_is_away", [True, False])
def test_the_message_ends_early_only_for_a_store_that_is_away(store_is_away: bool) -> None:
    brake = Brake(Drain())
    brake.failed(store_is_away=store_is_away)
    brake.failed()
    assert brake.store_is_away is store_is_away
    brake.begin()  # the next message tries it again, after the wait
    assert not brake.store_is_away
    assert brake.wait_s() == 0.5


def test_a_commit_ends_it() -> None:
    brake = Brake(Drain())
    brake.failed(store_is_away=True)
    brake.succeeded()
    assert (brake.store_is_away, brake.wait_s()) == (False, 0.0)
