"""What an answer of an API means: a result, a later try, a row's error, or the end of the chunk. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

TRIES = 8
"""Chosen: with the waits below, a minute of an API that is away."""
ROW_TRIES = 3
"""Where the fault may be the row's: it is not to hold up the others."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
MOST_RETRY_AFTER_S = 600.0
"""Chosen: an API that asks for more is asked after ten minutes, and again."""

AWAY = frozenset({408, 425, 429, 502, 503, 504})
"""The API has no room or is not there: later it may answer any row."""
REFUSED = frozenset({401, 403, 404, 405})
"""Wrong for every row: the key, the address, or the name of the model."""

Kind = Literal["ok", "later", "row", "away", "job"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do."""

    kind: Kind
    """`ok`; `later`: ask again; `row`: the row is an error; `away`: the chunk is tried later; `job`: no
    row can be answered."""
    wait_s: float = 0.0
    """Seconds until the next try."""
    all_wait: bool = False
    """The other requests wait too: the API has said that it is full."""


def verdict(status: int | None, headers: Mapping[str, str], tries: int, now: datetime) -> Verdict:
    """After so many tries. `status` None: nothing was answered; 0: not in time."""
    if status is not None and 200 <= status < 300:
        return Verdict("ok")
    if status in REFUSED or (status is not None and 300 <= status < 400):
        return Verdict("job")
    may_pass = status in AWAY or status is None
    if not may_pass and status != 0 and (status or 0) < 500:
        return Verdict("row")
    if tries >= (TRIES if may_pass else ROW_TRIES if status else 2):
        return Verdict("away" if may_pass else "row")
    asked = retry_after_s(headers.get("retry-after"), now)
    # at once, or at a time that is past: an API that says so each time would use up all tries
    wait_s = asked or min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1))
    return Verdict("later", wait_s, all_wait=status in (429, 503))


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or a date; None: it does not.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # the latter of a year or zone of many digits
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - now).total_seconds()
    return min(MOST_RETRY_AFTER_S, max(0.0, seconds)) if seconds == seconds else None
