"""Numbers in words, the same wherever they are told."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short_time(seconds: float) -> str:
    """`8 ms`, `1.23 s`: for what takes seconds at most, each digit telling something."""
    ms = 1000 * seconds
    if ms < 1:
        return "< 1 ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{seconds:,.2f} s"
