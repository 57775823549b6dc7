"""When a job should be done: a time of day, a date, or a duration after its submission. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from schemas.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def deadline_of(deadline: str | None, window: str | None, now: datetime) -> float | None:
    """Seconds since the epoch; None where neither is given.

    `06:00` is the next six o'clock on the clocks of `now`'s time zone, also in the nights when they
    change; a naive `now` is in this machine's zone.

    Raises:
        ConfigError: neither a time nor a duration, both at once, or in the past.
    """
    if deadline is not None and window is not None:
        raise ConfigError("--deadline and --completion-window say the same: give one of them")
    if window is not None:
        return now.timestamp() + _seconds(window)
    if deadline is None:
        return None
    at = _next_time(deadline, now) or _date(deadline, now)
    if at.timestamp() <= now.timestamp():
        raise ConfigError(f"--deadline {deadline} has passed")
    return at.timestamp()


def _seconds(window: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", window.strip())
    if found is None or not float(found[1]):
        raise ConfigError(f"--completion-window {window!r} is not a duration such as 90m or 4h")
    return float(found[1]) * _UNITS[found[2]]


def _next_time(text: str, now: datetime) -> datetime | None:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        return None
    at = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    return at if at > now else at + timedelta(days=1)


def _date(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"--deadline {text!r} is not 06:00 or 2026-11-24T06:00") from error
    return at.replace(tzinfo=now.tzinfo) if at.tzinfo is None else at
