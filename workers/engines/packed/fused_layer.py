"""The layer of BERT's family for packed batches on a GPU, with fewer passes over its memory.

Between a layer's matrix products a GPU only moves memory. Here the same numbers are computed in
fewer steps: query, key and value come from one product, GELU is part of the product before it, and
a residual is added by the normalization that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from workers.engines.packed.attention import Packing, attend
from workers.engines.packed.kernels import kernels
from workers.engines.packed.last_layer import bert_layers


def fuse_layers(model: Any) -> int:
    """Let the layers of a BERT-like encoder compute packed batches in fewer steps; returns how many
    can.

    In place; what is not packed is computed as before. The three weights become views of one.
    """
    layers = [layer for layer in bert_layers(model) if _is_plain(layer)]
    for layer in layers:
        weight, bias = _join(layer.attention.self)
        layer.forward = partial(_forward, layer, layer.forward, weight, bias)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    """GELU by the error function, and biases everywhere."""
    from torch import nn
    from transformers.activations import GELUActivation

    act = layer.intermediate.intermediate_act_fn
    plain = (
        isinstance(act, GELUActivation | nn.GELU) and getattr(act, "approximate", "none") == "none"
    )
    own = layer.attention.self
    return plain and all(p.bias is not None for p in (own.query, own.key, own.value))


def _join(own: Any) -> tuple[Any, Any]:
    import torch

    parts = (own.query, own.key, own.value)
    weight = torch.cat([p.weight.data for p in parts])
    bias = torch.cat([p.bias.data for p in parts])
    for part, w, b in zip(parts, weight.chunk(3), bias.chunk(3), strict=True):
        part.weight.data, part.bias.data = w, b
    return weight, bias


def _forward(
    layer: Any,
    whole: Callable[..., Any],
    weight: Any,
    bias: Any,
    hidden: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """`[1, tokens, width]` to the same."""
    from torch.nn.functional import linear

    packing: Packing | None = kwargs.get("packing")
    if packing is None:
        return whole(hidden, *args, **kwargs)
    own, out, after = layer.attention.self, layer.attention.output, layer.output
    states = hidden[0]
    joined = linear(states, weight, bias)
    # [tokens, heads, size] each, views of one product
    q, k, v = joined.view(len(states), 3, -1, own.attention_head_size).unbind(1)
    seen = attend(q, k, v, packing).flatten(1)
    states = add_norm(out.dense(seen), states, out.LayerNorm)
    wide = linear_gelu(states, layer.intermediate.dense)
    return add_norm(after.dense(wide), states, after.LayerNorm).unsqueeze(0)


def add_norm(one: Any, two: Any, norm: Any) -> Any:
    """LayerNorm of `one + two`, `[tokens, width]` each; `norm` is a `torch.nn.LayerNorm`.

    torch adds and normalizes in two kernels, the sum rounded and written between them.
    """
    ours = kernels() if one.is_cuda else None
    if ours is None:
        return norm(one + two)
    return ours.add_norm(one, two, norm.weight, norm.bias, norm.eps)


def linear_gelu(states: Any, dense: Any) -> Any:
    """GELU of a linear layer, `[tokens, in]` to `[tokens, out]`.

    On a GPU the matrix product includes GELU, in its tanh form, 1.8e-4 from the error function
    (rms). In half precision, which differs by 1.7e-3 in bfloat16 and 2.1e-4 in float16, rounding
    once instead of twice makes up for that. Elsewhere it is computed as in transformers.
    """
    import torch

    if states.is_cuda:
        return torch._addmm_activation(dense.bias, states, dense.weight.t(), use_gelu=True)
    return torch.nn.functional.gelu(dense(states))


def fuse_norms(model: Any) -> list[Any]:
    """Let the RMSNorm of decoders run as one kernel of torch instead of six; returns the changed modules."""
    found = [
        module
        for module in model.modules()
        if type(module).__name__.endswith("RMSNorm")
        and hasattr(module, "variance_epsilon")
        and getattr(module, "weight", None) is not None
    ]
    for module in found:
        module.forward = partial(_rms_norm, module)
    return found


def unfuse(modules: Iterable[Any]) -> None:
    """Restore the original computation of these modules."""
    for module in modules:
        del module.forward


def _rms_norm(module: Any, states: Any) -> Any:
    from torch.nn.functional import rms_norm

    return rms_norm(states, module.weight.shape, module.weight, module.variance_epsilon)
