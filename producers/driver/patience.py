"""Waits for a store that is away, before a job is stored and after it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from headrace.process.numbers import span
from headrace.settings import Settings
from schemas.errors import DiskFull, StorageError

T = TypeVar("T")

RETRY_S = 5.0
"""Chosen: each call of the store has made its own attempts before, of some 6 s."""


def patiently(
    act: Callable[[], T],
    settings: Settings,
    note: Callable[[str], None],
    *,
    wait: Callable[[float], object] = time.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> T:
    """What `act` returns, called again while the store is away.

    Raises:
        StorageError: the store was away for `--give-up-after`. DiskFull: at once.
    """
    first, limit_s = None, settings.give_up_after_s
    while True:
        try:
            return act()
        except DiskFull:
            raise
        except StorageError as error:
            if first is None:
                first = now_s()
                if limit_s > 0:
                    note(
                        f"waiting for the store, at most {span(limit_s)} (--give-up-after): {error}"
                    )
            if now_s() - first >= limit_s:
                raise
        wait(min(RETRY_S, limit_s / 10))
