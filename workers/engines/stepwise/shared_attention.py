"""Attention of rows whose beginning is held once: see `shared_start`.

A row's cache has its own tokens only. Keys and values of the beginning are those of one row, and all
rows look at them in one product: neither memory nor time grows with rows times beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workers.engines.packed.attention import CHANGES_ATTENTION

NAME = "headrace_shared_start"
MOST_KEYS = 1 << 15
"""Of prompts that are read together, the beginning counted in each. Chosen: some tens of megabytes
in a layer."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Tokens that were read once, for all layers."""

    tokens: int
    layers: list[tuple[Any, Any]]
    """Keys and values of each layer, `[1, heads, tokens, size]`."""

    def of(self, rows: Any) -> RowsBeginning:
        """The same for a batch; `rows` says which rows begin so, bool `[rows]`."""
        return RowsBeginning(self, None if bool(rows.all()) else rows)


@dataclass(frozen=True, slots=True)
class RowsBeginning:
    """A beginning, and which rows of a batch have it."""

    beginning: Beginning
    rows: Any
    """bool `[rows]`, or None for all."""


def register() -> None:
    """Register the attention with transformers under `NAME`; safe to call twice."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, shared_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def shared_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    beginning: RowsBeginning | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Any, None]:
    """Attention of each row over its beginning and its own tokens, `[rows, tokens, heads, size]`.

    `query`, `key` and `value` are `[rows, heads, tokens, size]`, `attention_mask` is bool or added,
    `[rows, 1, tokens, keys]`, without the beginning. Without one it is the attention of transformers.

    Raises:
        NotImplementedError: the model asks for what changes the numbers and is not computed here.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if beginning is None:
        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found, None
    for name in CHANGES_ATTENTION:
        if kwargs.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    keys, values = beginning.beginning.layers[module.layer_idx]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.shape[2] == 1:
        found = _one_token(query * scale, (keys, key), (values, value), attention_mask, beginning)
    else:
        found = _prompts(query, (keys, key), (values, value), attention_mask, scale)
    return found.transpose(1, 2).contiguous(), None


def _one_token(q: Any, keys: Any, values: Any, mask: Any, beginning: RowsBeginning) -> Any:
    """A new token in each row, `[rows, heads, 1, size]`, from scaled queries."""
    import torch

    rows, heads, _, size = q.shape
    few = keys[0].shape[1]
    grouped = q.reshape(rows, few, heads // few, size)
    by_head = grouped.transpose(0, 1).reshape(few, -1, size)
    shared = (by_head @ keys[0][0].transpose(1, 2)).unflatten(1, (rows, -1)).transpose(0, 1)
    if beginning.rows is not None:
        shared = shared.masked_fill(~beginning.rows[:, None, None, None], float("-inf"))
    own = grouped @ keys[1].transpose(2, 3)
    if mask is not None:
        own = own.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else own + mask
    tokens = shared.shape[-1]
    shares = torch.cat([shared, own], dim=-1).float().softmax(dim=-1).to(q.dtype)
    of_shared = shares[..., :tokens].transpose(0, 1).flatten(1, 2) @ values[0][0]
    found = shares[..., tokens:] @ values[1]
    found = found + of_shared.unflatten(1, (rows, -1)).transpose(0, 1)
    return found.reshape(rows, heads, 1, -1)


def _prompts(q: Any, keys: Any, values: Any, mask: Any, scale: float) -> Any:
    """All tokens behind the beginning, `[rows, heads, tokens, size]`; each row has it."""
    import torch
    from torch.nn.functional import pad, scaled_dot_product_attention

    tokens, own = keys[0].shape[2], q.shape[2]
    groups = q.shape[1] // keys[0].shape[1]
    if mask is None:  # no padding
        mask = torch.ones(own, own, dtype=torch.bool, device=q.device).tril()[None, None]
    sees = mask if mask.dtype == torch.bool else mask == 0
    sees = pad(sees, (tokens, 0), value=True).expand(len(q), -1, -1, -1)
    at_once = max(1, MOST_KEYS // (tokens + own))
    found = []
    for first in range(0, len(q), at_once):
        some = slice(first, first + at_once)
        k, v = (
            torch.cat([shared.expand(len(mine), -1, -1, -1), mine], dim=2)
            for shared, mine in ((keys[0], keys[1][some]), (values[0], values[1][some]))
        )
        if groups > 1:
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        found.append(scaled_dot_product_attention(q[some], k, v, attn_mask=sees[some], scale=scale))
    return torch.cat(found)
