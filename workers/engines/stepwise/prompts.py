"""Reads the prompts of a decoder: several lengths in one forward, behind what was read before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.engines.stepwise.shared_attention import Beginning


def read_prompts(
    model: Any, prompts: Sequence[Any], beginning: Beginning | None = None
) -> tuple[Any, Any, Any]:
    """Logits after each prompt, the cache, and tokens of each row in it, int64 `[rows]`.

    `prompts` are int64 `[rows, tokens]` of several lengths; the shorter are padded on the left, in
    the cache too. With a `beginning`, each prompt is longer than it and begins with its tokens, and
    the cache has only what follows.
    """
    import inspect

    import torch
    from torch.nn.functional import pad
    from transformers.cache_utils import DynamicCache

    known = 0 if beginning is None else beginning.tokens
    own = [ids[:, known:] for ids in prompts]
    device, longest = own[0].device, max(ids.shape[1] for ids in own)
    ids = torch.cat([pad(it, (longest - it.shape[1], 0)) for it in own])
    lengths = torch.cat([torch.full((len(it),), it.shape[1], device=device) for it in own])
    places = torch.arange(longest, device=device) - (longest - lengths[:, None])
    given: dict[str, Any] = {"position_ids": known + places.clamp(min=0)}
    if len(own) > 1:  # without padding a kernel may do without a mask
        given["attention_mask"] = (places >= 0).long()
    if beginning is not None:
        given["beginning"] = beginning.of(lengths > 0)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        given["logits_to_keep"] = 1
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    outputs = model(input_ids=ids, **given, past_key_values=cache, use_cache=True)
    return outputs.logits[:, -1].float(), outputs.past_key_values, lengths


def read_beginning(model: Any, ids: np.ndarray) -> Beginning:
    """Run the model over tokens, int32 `[tokens]`, that prompts begin with."""
    import torch

    row = torch.from_numpy(ids.astype("int64"))[None].to(model.device)
    _, cache, _ = read_prompts(model, [row])
    return Beginning(len(ids), [(layer.keys, layer.values) for layer in cache.layers])
