"""Attention of rows that share a beginning and end in a tree: see `ChoiceTree`.

All rows of a batch stand behind one another, as in `workers.engines.packed.attention`. What they
begin with in common was computed before (`TreePacking.shared`). What follows a row's prompt are
nodes of a tree, which see the prompt and the nodes before them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

NAME = "headrace_choices"
MOST_KEYS = 1 << 15
"""Of rows that are computed together, what they share counted in each. Chosen: some tens of
megabytes in a layer."""


@dataclass(slots=True)
class TreePacking:
    """The boundaries of the rows of a batch, for all layers of one forward."""

    runs: tuple[tuple[int, int, int], ...]
    """Neighbours of equal length: (first token, rows, tokens per row)."""
    sees: np.ndarray
    """The nodes at the end of each row, bool `[nodes, nodes]`: see `ChoiceTree.sees`."""
    depths: np.ndarray
    """Tokens from the prompt to each of them, int64 `[nodes]`."""
    shared: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    """Layer → keys and values of what all rows begin with, `[tokens, heads, size]`."""
    kept: dict[int, tuple[Any, Any]] | None = None
    """Where keys and values of this forward are kept, for `shared` of the next."""
    masks: dict[tuple[int, int, int], Any] = field(default_factory=dict)


def register() -> None:
    """Register the attention with transformers under `NAME`; safe to call twice."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def tree_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    packing: TreePacking,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """Attention of each row over what is shared and itself, `[1, tokens, heads, size]`.

    Shapes are those of `packed_attention`.
    """
    import torch

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if packing.kept is not None:
        packing.kept[module.layer_idx] = (k, v)
    before = packing.shared.get(module.layer_idx)
    result = q.new_empty(*q.shape[:2], v.shape[2])
    for start, rows, length in packing.runs:
        most = max(1, MOST_KEYS // (length + (0 if before is None else len(before[0]))))
        for first in range(0, rows, most):
            begin = start + first * length
            end = start + min(rows, first + most) * length
            mine, keys, values = (x[begin:end].unflatten(0, (-1, length)) for x in (q, k, v))
            out = _attend(mine, keys, values, before, packing, scaling, sliding_window)
            result[begin:end].unflatten(0, (-1, length)).copy_(out)
    return torch.unsqueeze(result, 0), None


def _attend(
    q: Any, k: Any, v: Any, before: Any, packing: TreePacking, scale: Any, window: int | None
) -> Any:
    """Rows of one length, all `[rows, tokens, heads, size]`, and so is the result."""
    import torch

    if before is not None:
        k, v = (
            torch.cat([shared.unsqueeze(0).expand(len(own), -1, -1, -1), own], dim=1)
            for shared, own in ((before[0], k), (before[1], v))
        )
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    own, all_keys = q.shape[1], k.shape[1]
    is_plain = not len(packing.depths) and own == all_keys
    mask = None
    if not is_plain or (window is not None and window < all_keys):
        mask = _mask(packing, own, all_keys, window or all_keys + len(packing.depths), q)
    found = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
    )
    return found.transpose(1, 2)


def _mask(packing: TreePacking, own: int, all_keys: int, window: int, like: Any) -> Any:
    """Which token sees which: bool `[own, all_keys]`, kept for the batch."""
    import torch

    at = (own, all_keys, window)
    if at not in packing.masks:
        nodes = len(packing.depths)
        behind = all_keys - nodes
        places = np.concatenate([np.arange(behind), behind - 1 + packing.depths])
        sees = places[:, None] >= places[None, :]
        sees[:, behind:] = False
        sees[behind:, behind:] = packing.sees
        sees &= places[:, None] - places[None, :] < window
        packing.masks[at] = torch.from_numpy(sees[all_keys - own :]).to(like.device)
    return packing.masks[at]
