"""The token budget of a batch, found by trying a few sizes. Pure: the caller runs and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# A larger batch that gains less than this is not worth its memory, and may be noise: one batch's
# processor time moves by 2 % on a busy core (measured).
WORTH = 0.02


@dataclass(frozen=True, slots=True)
class Ladder:
    """The batch sizes that are tried on a kind of device, and the time limit."""

    rungs: tuple[int, ...]
    """Tokens per batch, ascending."""
    limit_s: float
    """Sizes that would take the search beyond this are not tried."""
    repeats: int
    """Batches per size; the fastest counts, and the first warms up."""


LADDERS = {
    # Chosen by measurement (MiniLM, one thread, processor time over what 2,048 tokens take):
    # 128 tokens 1.16 to 1.3, 256 1.08 to 1.1, 512 1.05 to 1.09, 1,024 1.01 to 1.02, 4,096 and
    # 8,192 0.98 to 1. One batch cannot show so little, so the search begins where it matters less.
    "cpu": Ladder((1024, 2048, 4096), limit_s=0.7, repeats=1),
    # Chosen: from what hides the launch of a kernel to a large part of a window of rows.
    "cuda": Ladder(tuple(2**n for n in range(12, 18)), limit_s=3.0, repeats=3),
}

Try = Callable[[int], float | None]
"""Takes the tokens of a batch; returns its seconds, or None if the device is out of memory."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search."""

    tokens: int
    failed_at: int | None = None
    """The smallest batch that found no memory; None: none failed."""


def find_budget(
    seconds_of: Try, fits: Callable[[int], bool], ladder: Ladder, default: int
) -> Found:
    """The smallest budget whose speed is within 2 % of the best, and that the longest rows fit in.

    `fits` says whether a batch of the longest rows has room. If the time ends before a larger size
    showed no gain, it is `default`, or the best size tried if that is larger. An eighth of the
    first size is run before all others, so that a model too large to try out on this device costs
    little more than that.
    """
    rates, failed_at, is_flat = _climb(seconds_of, ladder)
    tokens = default
    if rates:
        best = max(rates.values())
        tokens = min(size for size, rate in rates.items() if rate >= best * (1 - WORTH))
        if not is_flat and failed_at is None:
            tokens = max(tokens, default)
    if failed_at is not None:
        tokens = min(tokens, failed_at // 2)
    while tokens > ladder.rungs[0] and not fits(tokens):
        failed_at, tokens = tokens, tokens // 2
    return Found(max(1, tokens), failed_at)


def _climb(seconds_of: Try, ladder: Ladder) -> tuple[dict[int, float], int | None, bool]:
    """Tokens per second by size; the size that found no memory; whether the last gained nothing."""
    first = ladder.rungs[0]
    small = max(1, first // 8)
    taken = _seconds(seconds_of, small, ladder.repeats)
    if taken is None:
        return {}, small, False
    # the first batch may have compiled kernels for a second
    fastest = min(taken)
    spent = fastest * len(taken)
    rates: dict[int, float] = {}
    rate = small / max(fastest, 1e-9)
    for size in ladder.rungs:
        if spent + ladder.repeats * size / rate > ladder.limit_s:
            return rates, None, False
        taken = _seconds(seconds_of, size, ladder.repeats)
        if taken is None:
            return rates, size, False
        spent += sum(taken)
        before, rate = rate, size / max(min(taken), 1e-9)
        rates[size] = rate
        if rate < before * (1 + WORTH) and size != first:
            return rates, None, True
    return rates, None, True


def _seconds(seconds_of: Try, size: int, repeats: int) -> list[float] | None:
    """Seconds of each batch; None if one ran out of memory."""
    taken: list[float] = []
    for _ in range(repeats):
        seconds = seconds_of(size)
        if seconds is None:
            return None
        taken.append(seconds)
    return taken
