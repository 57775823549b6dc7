"""`{date}` and similar words in paths, filled in once, when a command starts. Pure."""

from __future__ import annotations

import re
from datetime import date, timedelta

from schemas.errors import ConfigError

_WORD = re.compile(r"\{([A-Za-z_][\w+-]*)\}")
_DATE = re.compile(r"date([+-]\d{1,4})?")


def logical_date(text: str | None, today: date) -> date:
    """The day that `--date` names, or `today`.

    Raises:
        ConfigError: it is not a date.
    """
    if text is None:
        return today
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--date {text} is not a date such as 2026-11-24") from error


def fill_dates(path: str, day: date) -> str:
    """The path with `{date}`, `{yesterday}`, `{date-7}` and `{date+1}` as YYYY-MM-DD.

    Raises:
        ConfigError: another word in braces. What is no word, such as `{a,b}`, stays as it is.
    """

    def value(found: re.Match[str]) -> str:
        word = found[1]
        if word == "yesterday":
            return (day - timedelta(days=1)).isoformat()
        dated = _DATE.fullmatch(word)
        if dated is None:
            raise ConfigError(
                f"{path}: {{{word}}} means nothing; known are {{date}}, {{yesterday}} and {{date-7}}. "
                "For a name with braces in it, use --literal"
            )
        try:
            return (day + timedelta(days=int(dated[1] or 0))).isoformat()
        except OverflowError as error:
            raise ConfigError(f"{path}: {{{word}}} is before the first year") from error

    return _WORD.sub(value, path)
