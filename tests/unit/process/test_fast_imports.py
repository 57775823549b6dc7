"""Imports without the garbage collector, and what it no longer looks at."""

from __future__ import annotations

import gc

from headrace.process.fast_imports import fast_imports, gc_paused


def test_imports_are_not_collected_and_not_looked_at_again() -> None:
    with fast_imports():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(kept)


def test_the_outermost_block_ends_it() -> None:
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
