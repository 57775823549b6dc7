"""What an answer of an API means, as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from workers.engines.endpoint.retries import ROW_TRIES, TRIES, Verdict, retry_after_s, verdict

NOW = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
CASES: dict[str, tuple[int | None, dict[str, str], int, Verdict]] = {
    "an answer": (200, {}, 1, Verdict("ok")),
    "the first time full": (429, {}, 1, Verdict("later", 0.5, True)),
    "the fourth time": (429, {}, 4, Verdict("later", 4.0, True)),
    "full, with a time": (429, {"retry-after": "7"}, 1, Verdict("later", 7.0, True)),
    "full, with a date": (
        503, {"retry-after": "Sun, 29 Nov 2026 20:00:20 GMT"}, 1, Verdict("later", 20.0, True),
    ),
    "full, until now": (429, {"retry-after": "0"}, 4, Verdict("later", 4.0, True)),
    "full, until a time that is past": (
        429, {"retry-after": "Sun, 29 Nov 2026 19:00:00 GMT"}, 2, Verdict("later", 1.0, True),
    ),
    "full for days": (429, {"retry-after": "99999"}, 1, Verdict("later", 600.0, True)),
    "full for ever": (429, {}, TRIES, Verdict("away")),
    "a gateway": (502, {}, 1, Verdict("later", 0.5)),
    "nobody there": (None, {}, TRIES - 1, Verdict("later", 30.0)),
    "nobody there at all": (None, {}, TRIES, Verdict("away")),
    "a fault": (500, {}, 1, Verdict("later", 0.5)),
    "a fault with this row": (500, {}, ROW_TRIES, Verdict("row")),
    "slow": (0, {}, 1, Verdict("later", 0.5)),
    "never": (0, {}, 2, Verdict("row")),
    "a bad request": (400, {}, 1, Verdict("row")),
    "a long prompt": (413, {}, 1, Verdict("row")),
    "a wrong key": (401, {}, 1, Verdict("job")),
    "no such model": (404, {}, 1, Verdict("job")),
    "elsewhere": (307, {}, 1, Verdict("job")),
}  # fmt: skip


@pytest.mark.parametrize(("status", "headers", "tries", "wanted"), CASES.values(), ids=CASES)
def test_an_answer_is_a_result_a_later_try_or_an_error(
    status: int | None, headers: dict[str, str], tries: int, wanted: Verdict
) -> None:
    assert verdict(status, headers, tries, NOW) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("-5", 0.0),
        ("1.5", 1.5),
        (f"Sun, 29 Nov {'9' * 20} 21:00:30 GMT", None),
        (f"Sun, 29 Nov 2026 21:00:30 +{'9' * 20}", None),
    ],
)
def test_a_time_that_makes_no_sense_is_none(value: Any, wanted: float | None) -> None:
    assert retry_after_s(value, NOW) == wanted
