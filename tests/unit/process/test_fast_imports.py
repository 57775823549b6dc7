"""Imports without the garbage collector, and what it no longer looks at."""

from __future__ import annotations

import gc

from headrace.process.fast_imports import importing, no_collection


def test_imports_are_not_collected_and_not_looked_at_again() -> None:
    with importing():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(kept)


def test_whoever_began_the_block_ends_it() -> None:
    with no_collection():
        with no_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
