"""Formats numbers for people, the same everywhere."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """`45 s`, `30 min`, `2.5 h`: a limit as people set it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def short_time(seconds: float) -> str:
    """`8 ms`, `1.23 s`: for what takes seconds at most, each digit telling something."""
    ms = 1000 * seconds
    if ms < 1:
        return "< 1 ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{seconds:,.2f} s"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes for people: `4.4 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def rough_duration(seconds: float) -> str:
    """Seconds of a guess: `90 s`, `12 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02d} min"
