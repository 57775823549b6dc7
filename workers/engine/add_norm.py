"""LayerNorm of a sum, in one pass over memory on a GPU.

torch adds and normalizes in two kernels, the sum rounded and written between them. With Triton,
which comes with torch's builds for CUDA, it is one (`triton_kernels`); elsewhere torch's two.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def add_norm(one: Any, two: Any, norm: Any) -> Any:
    """LayerNorm of `one + two`, `[tokens, width]` each; `norm` is a `torch.nn.LayerNorm`."""
    kernels = _kernels() if one.is_cuda else None
    if kernels is None:
        return norm(one + two)
    return kernels.add_norm(one, two, norm.weight, norm.bias, norm.eps)


@lru_cache(maxsize=1)
def _kernels() -> Any:
    """None where Triton is not installed."""
    try:
        from workers.engine import triton_kernels
    except ImportError:
        return None
    return triton_kernels
