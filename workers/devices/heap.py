"""Returns memory that was freed inside glibc's heap to the kernel, from time to time.

A worker's heap keeps what it frees (see `MALLOC_ENVIRONMENT`), and batches of ever new sizes leave
holes in it that the next one does not fit into: 1,000 rows of documentation left 120 MB of them,
5,000 rows 200 MB (MiniLM). Returned memory has to be faulted in again when it is needed. So this is
done rarely, and only if the process has grown.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import psutil

EVERY_S = 5.0
GROWN_BYTES = 96 << 20
"""Both chosen: 20,000 rows of documentation peak at 378 MB above imports and model, not 427, and
scoring takes 1 % more processor time (five rounds by turns, which differ by 2 %)."""


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def trim_of(library: str | None = None) -> Callable[[int], int] | None:
    """glibc's `malloc_trim(3)`; None where the C library has none (musl, macOS)."""
    try:
        found = ctypes.CDLL(library).malloc_trim
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = [ctypes.c_size_t], ctypes.c_int
    return found


class Heap:
    """Call `settle` between batches: it returns memory if the process has grown since the last time."""

    def __init__(
        self,
        trim: Callable[[int], int] | None,
        resident: Callable[[], int] = resident_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trim = trim
        self._resident = resident
        self._clock = clock
        self._next_s = clock() + EVERY_S
        self._settled = resident()

    def settle(self) -> bool:
        """Return memory if the process has grown; returns whether it did."""
        if self._trim is None or self._clock() < self._next_s:
            return False
        self._next_s = self._clock() + EVERY_S
        if self._resident() < self._settled + GROWN_BYTES:
            return False
        self._trim(0)
        self._settled = self._resident()
        return True
