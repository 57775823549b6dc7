"""Not the package flash-attn: its interface, as far as transformers asks for it, over torch's copy.

torch carries the same FlashAttention-2 kernels. Where the package of that name is too large to be
brought along, this stands in for it, so that a peer is measured with the attention it was made
for. Inference only: no dropout, no caches.
"""

from __future__ import annotations

from typing import Any

NOTE = "torch's own kernel"
__version__ = "2.7.4+torch"

Window = tuple[int, int]


def flash_attn_varlen_func(
    q: Any,
    k: Any,
    v: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
) -> Any:
    """Rows one after the other, `[tokens, heads, size]`, with their limits as int32 `[rows + 1]`."""
    import torch

    limits = (limit.to(torch.int32) for limit in (cu_seqlens_q, cu_seqlens_k))
    longest = (int(max_seqlen_q), int(max_seqlen_k))
    return _forward((q, k, v), (*limits, *longest), dropout_p, softmax_scale, causal, window_size)


def flash_attn_func(
    q: Any,
    k: Any,
    v: Any,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Window = (-1, -1),
) -> Any:
    """Rows of one length, `[rows, tokens, heads, size]`."""
    rows = (None, None, q.shape[1], k.shape[1])
    return _forward((q, k, v), rows, dropout_p, softmax_scale, causal, window_size)


def flash_attn_with_kvcache(q: Any, k_cache: Any, v_cache: Any, **more: Any) -> Any:
    """transformers imports it for generation with paged caches, which is not measured here."""
    raise NotImplementedError("no caches: this stands in for flash-attn in one forward pass only")


def _forward(
    qkv: tuple[Any, Any, Any],
    rows: tuple[Any, Any, int, int],
    dropout_p: float,
    scale: float | None,
    causal: bool,
    window: Window,
) -> Any:
    import torch

    if dropout_p:
        raise NotImplementedError("no dropout: this stands in for flash-attn at inference only")
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in qkv)
    return torch.ops.aten._flash_attention_forward(
        q, k, v, *rows, 0.0, causal, return_debug_mask=False, scale=scale,
        window_size_left=window[0], window_size_right=0 if causal else window[1],
    )[0]  # fmt: skip
