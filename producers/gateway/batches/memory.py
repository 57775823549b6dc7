"""Keeps the memory of a gateway small: what a step of a batch has freed goes back to the kernel."""

from __future__ import annotations

import contextlib
import ctypes

LARGE_BYTES = 1 << 20
"""Blocks from here on are mapped, and returned when they are freed. Chosen: the arrays of a million ids
have 4 to 8 MB; glibc would raise its own limit with each that is freed."""
HEAPS = 2
"""Chosen: glibc would make one for each of the threads that answer requests, and each keeps some."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Required: glibc's `malloc.h`."""


def keep_heaps_small() -> None:
    """Have glibc map large blocks and use few heaps, for the whole process.

    Other C libraries are left alone.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_ARENA_MAX, HEAPS)


def return_freed() -> None:
    """Return what is free inside the heaps of Arrow and glibc. It takes milliseconds."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
