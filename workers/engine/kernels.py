"""Our own kernels, where there is what compiles them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The module `triton_kernels`; None where Triton is not installed, and torch's own must do.

    Triton comes with torch's builds for CUDA.
    """
    try:
        from workers.engine import triton_kernels
    except ImportError:
        return None
    return triton_kernels
