"""Finds out by trial, at load, how a model can be run without changing its results."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.engines.generating.base import Prompt
from workers.engines.stepwise import shared_attention
from workers.engines.stepwise.prompts import read_beginning, read_prompts
from workers.engines.stepwise.rows import merge_caches
from workers.engines.stepwise.shared_attention import Beginning
from workers.engines.stepwise.start import padded

SHORT, LONG, STEPS = 5, 12, 2
"""Chosen: tokens of the two test rows, and tokens generated after each."""
TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 5e-2, "torch.float16": 1e-2}
"""Relative to the standard deviation. Rounding in float32 is under 1e-5; a wrong position or mask
gives more than 0.1."""


def padding_matters(model: Any, pad_id: int) -> bool:
    """Whether the encoder's output for a row changes when the row is padded."""
    import torch

    short, long = _rows(model)
    with torch.inference_mode():
        encoder = model.get_encoder()
        ids, mask = padded([short, long], pad_id, model.device)
        both = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0, :SHORT]
        ids, mask = padded([short], pad_id, model.device)
        alone = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0]
    return not _near(both, alone)


def can_join(model: Any, pad_id: int) -> bool:
    """Whether a decoder gives a row the same logits in a batch with longer rows."""
    import inspect

    import torch
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    with torch.inference_mode():
        try:
            caches = [_read(model, row, pad_id) for row in _rows(model)]
        except (TypeError, AttributeError):
            return False
        if not all(isinstance(it, DynamicCache) for it in caches):
            return False
        if not all(type(layer) is DynamicLayer for it in caches for layer in it.layers):
            return False
        lengths = torch.tensor([SHORT, LONG], device=model.device)
        alone = _run_steps(model, _read(model, _rows(model)[0], pad_id), lengths[:1])
        merge_caches(caches[0], caches[1])
        together = _run_steps(model, caches[0], lengths)
    return _near(together[:1], alone)


def can_read_together(model: Any, pad_id: int) -> bool:
    """Whether a decoder that can join also reads a prompt beside a longer one as it does alone."""
    import torch

    with torch.inference_mode():
        short, long = (padded([row], pad_id, model.device)[0] for row in _rows(model))
        alone, cache, lengths = read_prompts(model, [short])
        after = _run_steps(model, cache, lengths)
        together, cache, lengths = read_prompts(model, [short, long])
        after_both = _run_steps(model, cache, lengths)
    return _near(together[:1], alone) and _near(after_both[:1], after)


def can_share_a_start(model: Any, pad_id: int) -> bool:
    """Whether a decoder that reads together may hold what prompts begin with once, for all rows.

    If so, its attention is `shared_attention` from then on.
    """
    import torch

    was = model.config._attn_implementation
    if was != "sdpa":
        return False
    start, own = (padded([row], pad_id, model.device)[0] for row in _rows(model)[::-1])
    ids = [torch.cat([start, it], dim=1) for it in (own, start)]
    with torch.inference_mode():
        alone, cache, lengths = read_prompts(model, ids[:1])
        after = _run_steps(model, cache, lengths)
        try:
            shared_attention.register()
            model.set_attn_implementation(shared_attention.NAME)
            beginning = read_beginning(model, start[0].cpu().numpy())
            together, cache, lengths = read_prompts(model, ids, beginning)
            after_both = _run_steps(model, cache, lengths, beginning)
        except (TypeError, ValueError, AttributeError, RuntimeError):  # no such interface
            model.set_attn_implementation(was)
            return False
    does = _near(together[:1], alone) and _near(after_both[:1], after)
    if not does:
        model.set_attn_implementation(was)
    return does


def _rows(model: Any) -> list[Prompt]:
    """A short row and a long one, with token ids from the middle of the vocabulary."""
    from workers.models.load import text_config_of

    size = int(text_config_of(model.config).vocab_size)
    random = np.random.default_rng(0)
    return [
        Prompt(at, random.integers(size // 4, size // 2, length, dtype=np.int32), "", b"", 1)
        for at, length in enumerate((SHORT, LONG))
    ]


def _read(model: Any, row: Prompt, pad_id: int) -> Any:
    from transformers.cache_utils import DynamicCache

    ids, _ = padded([row], pad_id, model.device)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    return model(input_ids=ids, past_key_values=cache, use_cache=True).past_key_values


def _run_steps(model: Any, cache: Any, lengths: Any, beginning: Beginning | None = None) -> Any:
    """Run a few more steps; returns the last logits, `[rows, vocabulary]`.

    `lengths` are the tokens of each row in the cache, int64 `[rows]`.
    """
    import torch

    known, given = 0, {}
    if beginning is not None:
        known, given = beginning.tokens, {"beginning": beginning.of(lengths > 0)}
    for step in range(STEPS):
        had = lengths + step
        longest = cache.get_seq_length()
        places = torch.arange(longest + 1, device=model.device)
        outputs = model(
            input_ids=torch.full((len(lengths), 1), step + 1, device=model.device),
            attention_mask=(places >= longest - had[:, None]).long(),
            position_ids=known + had[:, None],
            past_key_values=cache,
            use_cache=True,
            **given,
        )
    return outputs.logits[:, -1]


def _near(found: Any, expected: Any) -> bool:
    share = TOLERANCE.get(str(expected.dtype), 1e-4)
    found, expected = found.float(), expected.float()
    return bool((found - expected).abs().max() <= share * (float(expected.std()) or 1.0))
