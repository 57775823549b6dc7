"""A deadline as people write it."""

from __future__ import annotations

from datetime import UTC, datetime

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
