"""BART's encoder and decoder for packed batches on a CPU.

BART's attention goes through transformers' interface, but its positions count from the start of the
batch, and its decoder reads the batch shifted by one token. Here both are done row by row. A
classifier reads the last end-of-sequence token of each row: only that has queries in the last layer.

Source: transformers/models/bart/modeling_bart.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from workers.engines.packed.attention import Packing
from workers.engines.packed.last_layer import attend_each


def fit_bart(model: Any) -> list[Any]:
    """Let a model of the family compute packed batches; returns the modules that were changed."""
    from transformers.models.bart.modeling_bart import BartModel

    base = model.base_model
    if not isinstance(base, BartModel):
        return []
    base.forward = partial(_forward, base, base.forward)
    return [base]


def _forward(
    base: Any,
    whole: Callable[..., Any],
    input_ids: Any = None,
    *,
    packing: Packing | None = None,
    position_ids: Any = None,
    **inputs: Any,
) -> Any:
    """`[1, tokens]` to `[1, tokens, width]`, or to `[1, rows, width]` where the packing says so."""
    from transformers.modeling_outputs import Seq2SeqModelOutput

    if packing is None or position_ids is None:
        return whole(input_ids, **inputs)
    encoded = _embed(base.encoder, input_ids, position_ids)
    for layer in base.encoder.layers:
        encoded = layer(encoded, None, packing=packing)
    states = _embed(base.decoder, _shifted(input_ids, position_ids, base.config), position_ids)
    *before, last = base.decoder.layers
    for layer in before:
        states = _decode(layer, states, encoded, packing)
    short = packing.read is not None and _are_ends(packing)
    states = (_decode_ends if short else _decode)(last, states, encoded, packing)
    if packing.read is not None and not short:
        states = states[:, packing.read]
    return Seq2SeqModelOutput(last_hidden_state=states, encoder_last_hidden_state=encoded)


def _embed(part: Any, ids: Any, positions: Any) -> Any:
    places = part.embed_positions(ids, position_ids=positions[0])
    return part.layernorm_embedding(part.embed_tokens(ids) + places)


def _shifted(ids: Any, positions: Any, config: Any) -> Any:
    """What the decoder reads: each row behind a start token, without its own last token."""
    return ids.roll(1, dims=1).masked_fill_(positions == 0, config.decoder_start_token_id)


def _decode(layer: Any, states: Any, encoded: Any, packing: Packing) -> Any:
    return layer(states, None, encoded, use_cache=False, packing=packing)


def _are_ends(packing: Packing) -> bool:
    """Whether the tokens that are read are the last of their rows, which see the whole of them."""
    ends = [
        start + (row + 1) * length - 1
        for start, rows, length in packing.runs
        for row in range(rows)
    ]
    return bool(packing.read.tolist() == ends)


def _decode_ends(layer: Any, states: Any, encoded: Any, packing: Packing) -> Any:
    """The layer at the last token of each row: `[1, tokens, width]` to `[1, rows, width]`."""
    ends = states[:, packing.read]
    seen = _attend(layer.self_attn, ends, states, packing)
    ends = layer.self_attn_layer_norm(ends + seen)
    seen = _attend(layer.encoder_attn, ends, encoded, packing)
    ends = layer.encoder_attn_layer_norm(ends + seen)
    wide = layer.activation_fn(layer.fc1(ends))
    return layer.final_layer_norm(ends + layer.fc2(wide))


def _attend(own: Any, asked: Any, states: Any, packing: Packing) -> Any:
    heads = (-1, own.num_heads, own.head_dim)
    query, key, value = (
        project(given)[0].view(heads)
        for project, given in ((own.q_proj, asked), (own.k_proj, states), (own.v_proj, states))
    )
    return own.out_proj(attend_each(query, key, value, packing).flatten(1).unsqueeze(0))
