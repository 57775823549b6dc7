"""A deadline as people write it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from producers.submission.deadline import deadline_of
from schemas.errors import ConfigError

NOW = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("deadline", "window", "expected"),
    [
        ("06:00", None, "2026-11-25T06:00"),
        ("23:00", None, "2026-11-24T23:00"),
        ("22:30", None, "2026-11-25T22:30"),
        ("2026-11-26T06:00", None, "2026-11-26T06:00"),
        ("2026-11-26T06:00+02:00", None, "2026-11-26T04:00"),
        (None, "90m", "2026-11-25T00:00"),
        (None, "4h", "2026-11-25T02:30"),
        (None, "1.5 d", "2026-11-26T10:30"),
    ],
)
def test_a_deadline_is_understood(deadline: str | None, window: str | None, expected: str) -> None:
    found = deadline_of(deadline, window, NOW)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp()


def test_without_one_there_is_none() -> None:
    assert deadline_of(None, None, NOW) is None


@pytest.mark.parametrize(
    ("deadline", "window"),
    [
        ("25:00", None), ("6", None), ("tomorrow", None), ("2026-11-01", None),
        (None, "4"), (None, "0h"), (None, "-1h"), (None, "4 weeks"), ("06:00", "4h"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(deadline: str | None, window: str | None) -> None:
    with pytest.raises(ConfigError):
        deadline_of(deadline, window, NOW)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "window", "expected"),
    [
        (datetime(2026, 3, 28, 23, 0, tzinfo=BERLIN), None, "2026-03-29T04:00"),  # clocks go on
        (datetime(2026, 10, 24, 23, 0, tzinfo=BERLIN), None, "2026-10-25T05:00"),  # and back
        (datetime(2026, 3, 29, 0, 30, tzinfo=BERLIN), None, "2026-03-29T04:00"),
        (datetime(2026, 3, 28, 23, 0, tzinfo=BERLIN), "4h", "2026-03-29T02:00"),
        (datetime(2026, 10, 24, 23, 0, tzinfo=BERLIN), "4h", "2026-10-25T01:00"),
    ],
)
def test_six_o_clock_is_six_o_clock_in_the_nights_when_clocks_change(
    now: datetime, window: str | None, expected: str
) -> None:
    wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp()
    assert deadline_of(None if window else "06:00", window, now) == wanted


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_berlin")
def test_without_a_zone_the_machine_says_what_six_o_clock_is() -> None:
    for night, hour in ((datetime(2026, 3, 28, 23), 4), (datetime(2026, 10, 24, 23), 5)):
        found = deadline_of("06:00", None, night)
        assert found is not None
        assert datetime.fromtimestamp(found, UTC).hour == hour
