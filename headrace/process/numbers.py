"""Formats numbers for people, the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

LEAST = 0.001
"""Smaller hours and amounts are shown as `< 0.001`: exact ones do not help planning."""


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
    """`8 ms`, `1.23 s`: milliseconds below one second, else two decimals."""
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
    """An estimated duration: `90 s`, `12 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def compact_number(value: float) -> str:
    """`1,234`, in full up to a million, then `1.23 M`."""
    if abs(value) < 1_000_000:
        return f"{value:,.0f}"
    for unit, one in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= one:
            return f"{value / one:,.2f} {unit}"
    return ""


def compact_rate(value: float) -> str:
    """A number per second: with a decimal where it is small."""
    return f"{value:.1f}" if value < 10 else compact_number(value)


def axis_number(value: float, _position: object = None) -> str:
    """A number short enough for an axis: `12k`, `1.5M`."""
    for unit, one in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= one:
            return f"{value / one:g}{unit}"
    return f"{value:g}"


def coarse_duration(seconds: float) -> str:
    """`90 s`, `12 min`, `2.1 h`: for a sentence about work that is left."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def exact_duration(value: float) -> str:
    """`420 ms`, `12.3 s`, `4 min 05 s`, `2 h 13 min`."""
    if value < 1:
        return f"{value * 1000:,.3g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def compact_plural(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{compact_number(number)} {noun}{'' if number == 1 else 's'}"


def percent_of(part: float, whole: float) -> str:
    """`12.3 %`; small shares have two significant digits, and 0 of 0 is 0 %."""
    if not part or not whole:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.2g} %" if 0 < share < 1 else f"{share:.1f} %"


def short_size(value: float) -> str:
    """`12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return ""


def money(value: float) -> str:
    """`1,234.50`, `0.034`, `< 0.001`: an amount without its currency, which headrace does not know."""
    if 0 < value < LEAST:
        return f"< {LEAST:g}"
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.2g}"


def worker_hours(value: float) -> str:
    """`12.50`, `0.034`, `< 0.001`: hours of workers."""
    if 0 < value < LEAST:
        return f"< {LEAST:g}"
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def utc_time(seconds_since_epoch: float) -> str:
    """`2026-11-24 03:02:07 UTC`."""
    return datetime.fromtimestamp(seconds_since_epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
