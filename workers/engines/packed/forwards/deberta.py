"""The encoder of DeBERTa-v2 and -v3 for packed batches on a CPU.

transformers 5.23 projects the embeddings of all relative positions in every layer of every forward,
copies what comes out for each row, and multiplies with positions that no row of the batch reaches.
Here they are projected once, when a model's way of running is chosen, and each row is multiplied
only with those that it reaches. In a layer whose answer is read at one token of each row, only that
token has a query.

Source: transformers/models/deberta_v2/modeling_deberta_v2.py; https://arxiv.org/abs/2006.03654
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from workers.engines.packed.forwards.disentangled import (
    Distances,
    Positions,
    Runs,
    attend,
    attend_first,
)
from workers.engines.packed.forwards.packed_model import current_packing, take_packing


def fit_deberta(model: Any) -> list[Any]:
    """Let a model of the family compute packed batches; returns the modules that were changed.

    Keeps two tables of `[positions, width]` for each layer: 3 MB a layer of a base-sized model.
    A model with another encoder is not changed, and then its packed batches are found wrong.
    """
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder

    encoder = getattr(model.base_model, "encoder", None)
    if not isinstance(encoder, DebertaV2Encoder):
        return []
    distances = Distances(partial(_places, encoder.layer[0].attention.self))
    with torch.inference_mode():
        positions = [
            _positions(encoder, layer.attention.self, distances) for layer in encoder.layer
        ]
    encoder.forward = partial(_encode, encoder, encoder.forward, positions)
    return [encoder, *take_packing(model)]


def _positions(encoder: Any, own: Any, distances: Distances) -> Positions:
    """The layer's keys and queries of all relative positions."""
    if not own.relative_attention:
        return Positions(None, None, distances)
    rows = encoder.get_rel_embedding()[: 2 * own.pos_ebd_size]
    keys = queries = None
    if "c2p" in own.pos_att_type:
        keys = _heads((own.key_proj if own.share_att_key else own.pos_key_proj)(rows), own)
    if "p2c" in own.pos_att_type:
        project = own.query_proj if own.share_att_key else own.pos_query_proj
        queries = _heads(project(rows), own) / _scale(own)
    return Positions(keys, queries, distances)


def _places(own: Any, distances: Any) -> Any:
    """The rows of the table of relative positions for distances, both int64 `[n]`."""
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    if own.position_buckets > 0 and own.max_relative_positions > 0:
        distances = make_log_bucket_position(
            distances, own.position_buckets, own.max_relative_positions
        ).long()
    return (distances + own.pos_ebd_size).clamp(0, 2 * own.pos_ebd_size - 1)


def _scale(own: Any) -> float:
    terms = 1 + sum(name in own.pos_att_type for name in ("c2p", "p2c"))
    return float((own.attention_head_size * terms) ** 0.5)


def _heads(projected: Any, own: Any) -> Any:
    """`[heads, tokens, size]` from `[tokens, heads * size]`, in one piece."""
    return projected.unflatten(1, (own.num_attention_heads, -1)).transpose(0, 1).contiguous()


def _encode(
    encoder: Any,
    whole: Callable[..., Any],
    positions: Sequence[Positions],
    hidden: Any,
    attention_mask: Any,
    **options: Any,
) -> Any:
    """`[1, tokens, width]` to the same, or to `[1, rows, width]` where the packing says so."""
    from transformers.modeling_outputs import BaseModelOutput

    packing = current_packing()
    if packing is None:
        return whole(hidden, attention_mask, **options)
    states = hidden
    for number, layer in enumerate(encoder.layer):
        convolves = number == 0 and encoder.conv is not None
        is_last = number + 1 == len(encoder.layer)
        read = packing.read if is_last and not convolves else None
        states = _layer(layer, states, positions[number], packing.runs, read)
        if convolves:
            states = _convolve(encoder.conv, hidden, states, packing.runs)
            states = states[:, packing.read] if is_last and packing.read is not None else states
    return BaseModelOutput(last_hidden_state=states, hidden_states=(states,))


def _layer(layer: Any, states: Any, positions: Positions, runs: Runs, read: Any) -> Any:
    own = layer.attention.self
    asked = states if read is None else states[:, read]
    q, k, v = (
        _heads(project(given)[0], own)
        for project, given in (
            (own.query_proj, asked), (own.key_proj, states), (own.value_proj, states)
        )
    )  # fmt: skip
    way = attend if read is None else attend_first
    seen = way(q.div_(_scale(own)), k, v, positions, runs).unsqueeze(0)
    attended = layer.attention.output(seen, asked)
    return layer.output(layer.intermediate(attended), attended)


def _convolve(conv: Any, before: Any, after: Any, runs: Runs) -> Any:
    """What DeBERTa-v2's larger models add behind their first layer: each row by itself."""
    import torch

    result = torch.empty_like(after)
    for start, rows, length in runs:
        one, two = (
            x[0, start : start + rows * length].unflatten(0, (rows, length))
            for x in (before, after)
        )
        mask = torch.ones(rows, length, dtype=torch.long)
        result[0, start : start + rows * length] = conv(one, two, mask).flatten(0, 1)
    return result
