"""Kernels in Triton; imported only where there is a GPU, and Triton with it."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

LONGEST = 128
"""Tokens of a row that `attend_short` takes."""
SIZES = (16, 32, 64)
"""Of a head: powers of two, and a tile of them in the registers."""


def try_out() -> None:
    """Compile and run a kernel; raises whatever Triton or the driver says."""
    # one that BERT-base needs anyhow: a kernel is compiled for each precision and kind of width
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    one = torch.ones(1, 768, device="cuda", dtype=half)
    add_norm(one, one, one[0], one[0], 1e-5)


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


def attend_short(
    q: Any, k: Any, v: Any, starts: Any, longest: int, scale: float, causal: bool
) -> Any:
    """Attention of each row over itself, rows of at most `LONGEST` tokens; one program a head.

    `q` is `[tokens, heads, size]`, `k` and `v` with their own number of heads, `starts` int32
    `[rows + 1]`. Flash attention gives each row 128 queries' room, which short ones leave empty.
    """
    result = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    rows, heads, size = len(starts) - 1, q.shape[1], q.shape[2]
    tile = max(16, triton.next_power_of_2(longest))
    if rows:
        _attend_short[(rows, heads)](
            q, k, v, result, starts, scale,
            *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *result.stride()[:2],
            GROUP=heads // k.shape[1], TILE=tile, SIZE=size, CAUSAL=causal,
            num_warps={16: 1, 32: 1, 64: 4}.get(tile, 8), num_stages=1,
        )  # fmt: skip
    return result


@triton.jit
def _attend_short(
    q, k, v, result, starts, scale,
    q_token, q_head, k_token, k_head, v_token, v_head, r_token, r_head,
    GROUP: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    first = tl.load(starts + tl.program_id(0)).to(tl.int64)
    length = tl.load(starts + tl.program_id(0) + 1).to(tl.int64) - first
    head = tl.program_id(1)
    token, column = tl.arange(0, TILE), tl.arange(0, SIZE)
    inside = (token < length)[:, None]
    at = (first + token)[:, None]
    query = tl.load(q + at * q_token + head * q_head + column[None, :], inside, 0.0)
    key = tl.load(k + at * k_token + head // GROUP * k_head + column[None, :], inside, 0.0)
    scores = tl.dot(query, tl.trans(key)) * scale
    seen = (token < length)[None, :]
    if CAUSAL:
        seen = seen & (token[:, None] >= token[None, :])
    scores = tl.where(seen, scores, -float("inf"))
    # a row without tokens sees nothing, and stores nothing
    shares = tl.exp(scores - tl.max(scores, 1)[:, None])
    value = tl.load(v + at * v_token + head // GROUP * v_head + column[None, :], inside, 0.0)
    found = tl.dot(shares.to(value.dtype), value) / tl.sum(shares, 1)[:, None]
    tl.store(
        result + at * r_token + head * r_head + column[None, :],
        found.to(result.dtype.element_ty),
        inside,
    )


def attend_first(q: Any, k: Any, v: Any, starts: Any, scale: float) -> Any:
    """One query per row, `[rows, heads, size]`, over the row's own `[tokens, heads, size]`."""
    result = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    rows, heads, size = q.shape
    if rows:
        _attend_first[(rows, heads)](
            q, k, v, result, starts, scale,
            *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *result.stride()[:2],
            TILE=64, SIZE=size, num_warps=2,
        )  # fmt: skip
    return result


@triton.jit
def _attend_first(
    q, k, v, result, starts, scale,
    q_row, q_head, k_token, k_head, v_token, v_head, r_row, r_head,
    TILE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    first = tl.load(starts + row).to(tl.int64)
    length = tl.load(starts + row + 1).to(tl.int64) - first
    column = tl.arange(0, SIZE)
    query = tl.load(q + row.to(tl.int64) * q_row + head * q_head + column).to(tl.float32) * scale
    # softmax as it comes: the largest score so far, the sum and the answer relative to it
    largest, total = -float("inf"), 0.0
    found = tl.zeros([SIZE], tl.float32)
    for start in range(0, length, TILE):
        token = start + tl.arange(0, TILE)
        inside = (token < length)[:, None]
        at = (first + token)[:, None]
        key = tl.load(k + at * k_token + head * k_head + column[None, :], inside, 0.0)
        value = tl.load(v + at * v_token + head * v_head + column[None, :], inside, 0.0)
        scores = tl.sum(key.to(tl.float32) * query[None, :], 1)
        scores = tl.where(token < length, scores, -float("inf"))
        most = tl.maximum(largest, tl.max(scores, 0))
        shares = tl.exp(scores - most)
        kept = tl.exp(largest - most)
        total = total * kept + tl.sum(shares, 0)
        found = found * kept + tl.sum(shares[:, None] * value.to(tl.float32), 0)
        largest = most
    found = tl.where(length > 0, found / total, 0.0)
    tl.store(
        result + row.to(tl.int64) * r_row + head * r_head + column,
        found.to(result.dtype.element_ty),
    )
