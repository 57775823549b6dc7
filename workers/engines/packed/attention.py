"""Attention without padding: the rows of a batch as one row of tokens, each seeing only its own.

transformers lets a program register an attention function by name. Ours gets the boundaries of the
rows besides the usual arguments (`packing=`, which the models pass through), and builds no mask. On
a GPU in half precision it is flash attention over cumulative lengths (`torch.nn.attention.varlen`),
and for short rows a kernel of our own (`triton_kernels`). Everywhere else rows of equal length go
through `scaled_dot_product_attention` together; they are adjacent because batches are sorted.

Source: https://huggingface.co/docs/transformers/attention_interface
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from typing import Any

import numpy as np

from workers.engines.packed.kernels import kernels

NAME = "headrace_packed"
CHANGES_ATTENTION = ("softcap", "s_aux", "position_bias", "head_mask")
"""Arguments that transformers 5.23 passes to an attention function and that ours does not compute."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The boundaries of the rows of a packed batch, for all layers of one forward."""

    runs: tuple[tuple[int, int, int], ...]
    """Neighbours of equal length: (first token, rows, tokens per row); no rows without tokens."""
    cumulative: Any
    """int32 tensor `[rows + 1]` on the device; only where flash attention reads it, else None."""
    longest: int
    """Tokens of the longest row."""
    read: Any = None
    """The one token of each row that the head reads, where the last layer computes no other."""
    bands: dict[tuple[int, int, bool], Any] = field(default_factory=dict)
    """Masks of sliding windows, made by the first layer that needs one: see `_band`."""


def runs_of(offsets: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Neighbouring rows of equal length, from their offsets (int64 `[rows + 1]`)."""
    lengths = np.diff(offsets)
    if not len(lengths):
        return ()
    starts = np.flatnonzero(np.concatenate(([True], lengths[1:] != lengths[:-1])))
    counts = np.diff(np.concatenate((starts, [len(lengths)])))
    return tuple(
        (int(offsets[s]), int(n), int(lengths[s]))
        for s, n in zip(starts, counts, strict=True)
        if lengths[s]
    )


def register() -> None:
    """Register the attention with transformers under `NAME`; safe to call twice."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def packed_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    packing: Packing,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """Attention of each row over itself, `[1, tokens, heads, size]`, and no weights.

    `query` is `[1, heads, tokens, size]`, `key` and `value` the same with their own number of
    heads. `sliding_window` is as transformers passes it: a token sees itself and the
    `sliding_window - 1` before it (and behind it, where attention is not causal).

    Raises:
        NotImplementedError: the model asks for what changes the numbers and is not computed here.
    """
    for name in CHANGES_ATTENTION:
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    # [tokens, heads, size]: how the projections wrote them, so these are views
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    found = attend(q, k, v, packing, scaling, bool(causal), sliding_window)
    return found.unsqueeze(0), None


def attend(
    q: Any,
    k: Any,
    v: Any,
    packing: Packing,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Any:
    """Attention of each row over itself; all `[tokens, heads, size]`, and so is the result."""
    flash = q.is_cuda and packing.cumulative is not None
    way = _attend_varlen if flash else _attend_runs
    return way(q, k, v, packing, scale, causal, window)


def attend_one(q: Any, k: Any, v: Any, packing: Packing) -> Any:
    """One query per row, `[rows, heads, size]`, over the row's own `[tokens, heads, size]`."""
    import torch
    from torch.nn.attention.varlen import varlen_attn

    ours = kernels()
    if ours is not None and q.shape[2] in ours.SIZES:
        return ours.attend_first(q, k, v, packing.cumulative, q.shape[2] ** -0.5)
    one_each = torch.arange(len(q) + 1, dtype=torch.int32, device=q.device)
    return varlen_attn(q, k, v, one_each, packing.cumulative, 1, packing.longest)


def _attend_varlen(
    q: Any, k: Any, v: Any, packing: Packing, scale: float | None, causal: bool, window: int | None
) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    longest, size = packing.longest, q.shape[2]
    ours = kernels()
    wide = window is None or window >= longest
    if ours is not None and wide and longest <= ours.LONGEST and size in ours.SIZES:
        given = size**-0.5 if scale is None else scale
        return ours.attend_short(q, k, v, packing.cumulative, longest, given, causal)
    side = -1 if window is None else window - 1
    return varlen_attn(
        q, k, v,
        packing.cumulative, packing.cumulative, longest, longest,
        scale=scale,
        window_size=(side, 0) if causal else (side, side),
        **({"enable_gqa": True} if q.shape[1] != k.shape[1] and _takes_gqa() else {}),
    )  # fmt: skip


@cache
def _takes_gqa() -> bool:
    """Whether the function has the argument `enable_gqa`; torch 2.11 takes fewer key heads without it."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in signature(varlen_attn).parameters


def _attend_runs(
    q: Any, k: Any, v: Any, packing: Packing, scale: float | None, causal: bool, window: int | None
) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    result = q.new_empty(*q.shape[:2], v.shape[2])
    for start, rows, length in packing.runs:
        stop = start + rows * length
        # [rows, heads, tokens of a row, size], still views
        one, two, three = (
            x[start:stop].unflatten(0, (rows, length)).transpose(1, 2) for x in (q, k, v)
        )
        narrow = window is not None and window < length
        band = _band(packing, length, window or 0, causal, q) if narrow else None
        out = scaled_dot_product_attention(
            one, two, three, attn_mask=band, is_causal=causal and band is None, scale=scale
        )
        result[start:stop].unflatten(0, (rows, length)).copy_(out.transpose(1, 2))
    return result


def _band(packing: Packing, length: int, window: int, causal: bool, like: Any) -> Any:
    """Which token attends to which in a sliding window: bool `[length, length]`, kept for the batch."""
    import torch

    found = packing.bands.get((length, window, causal))
    if found is None:
        at = torch.arange(length, device=like.device)
        back = at[:, None] - at[None, :]
        found = (back < window) & (back >= 0) if causal else back.abs() < window
        packing.bands[length, window, causal] = found
    return found
