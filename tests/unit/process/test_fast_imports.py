"""Imports without the garbage collector, and what it no longer looks at."""

from __future__ import annotations

import gc
import subprocess
import sys

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


def test_pyarrow_leaves_pandas_out_where_it_is_asked_to() -> None:
    script = """
import sys
from headrace.process.fast_imports import keep_pandas_out
keep_pandas_out()
assert not any(type(finder).__name__ == "_NoPandas" for finder in sys.meta_path)
import pyarrow as pa
pa.table({"a": ["x"]})
assert "pandas" not in sys.modules
import pandas
pa.table({"a": ["x"]})
"""
    subprocess.run([sys.executable, "-c", script], check=True)
