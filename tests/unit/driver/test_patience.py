"""A store that is away before the job is stored: waited for, announced once, given up in time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.settings import load_settings
from producers.driver.patience import patiently
from schemas.errors import DiskFull, InputUnreadable, StorageError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [times]

    def act() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return act


def call(act: Callable[[], str], limit: str) -> tuple[str, list[str], float]:
    clock, notes = Clock(), []  # type: ignore[var-annotated]
    settings = load_settings(give_up_after=limit)
    done = patiently(act, settings, notes.append, wait=clock.wait, now_s=lambda: clock.now)
    return done, notes, clock.now


def test_a_store_that_comes_back_is_waited_for_and_said_once() -> None:
    done, notes, seconds = call(failing(6, StorageError("503")), "30m")
    assert (done, seconds) == ("done", 30.0)
    assert notes == ["waiting for the store, at most 30 min (--give-up-after): 503"]


def test_one_that_stays_away_is_given_up() -> None:
    with pytest.raises(StorageError, match="503"):
        call(failing(10_000, StorageError("503")), "2m")


@pytest.mark.parametrize("error", [DiskFull("full"), InputUnreadable("denied")])
def test_what_somebody_must_mend_is_not_waited_for(error: Exception) -> None:
    with pytest.raises(type(error)):
        call(failing(1, error), "30m")


def test_without_patience_nothing_is_waited_for() -> None:
    with pytest.raises(StorageError):
        call(failing(1, StorageError("503")), "0")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("30m", 1800.0), ("4h", 14400.0), ("1.5d", 129600.0)]
)
def test_the_limit_may_have_a_unit(text: str, seconds: float) -> None:
    assert load_settings(give_up_after=text).give_up_after_s == seconds
