"""Kernels in Triton; imported only where there is a GPU, and Triton with it."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


def add_norm(one: Any, two: Any, weight: Any, bias: Any, eps: float) -> Any:
    """LayerNorm of `one + two`, `[tokens, width]` each and contiguous, computed in fp32."""
    rows, width = one.shape
    result = torch.empty_like(one)
    if rows:
        block = triton.next_power_of_2(width)
        _add_norm[(rows,)](
            one, two, weight, bias, result, width, eps,
            BLOCK=block, num_warps=4 if block <= 1024 else 8,
        )  # fmt: skip
    return result


@triton.jit
def _add_norm(one, two, weight, bias, result, width, eps, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    inside = column < width
    total = tl.load(one + at + column, inside, 0.0).to(tl.float32)
    total += tl.load(two + at + column, inside, 0.0).to(tl.float32)
    mean = tl.sum(total, 0) / width
    apart = tl.where(inside, total - mean, 0.0)
    scale = tl.rsqrt(tl.sum(apart * apart, 0) / width + eps)
    scaled = apart * scale * tl.load(weight + column, inside, 0.0).to(tl.float32)
    scaled += tl.load(bias + column, inside, 0.0).to(tl.float32)
    tl.store(result + at + column, scaled.to(result.dtype.element_ty), inside)
