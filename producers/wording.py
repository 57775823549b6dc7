"""Numbers in words, the same wherever they are told."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
