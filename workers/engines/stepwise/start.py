"""Prepares rows that start together, by transformers' own `generate`.

`generate` runs the encoder, creates the cache, the processors and the special tokens, and then calls
a custom decoding method. Ours only returns its arguments; `rows` runs the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from workers.engines.generating.base import Prompt
from workers.engines.stepwise.choice_paths import ChoiceMask, ChoicePaths
from workers.engines.stepwise.first_tokens import with_first_tokens
from workers.engines.stepwise.mask import Grammar, GrammarMask


@dataclass(slots=True)
class Started:
    """Rows before their first step."""

    prompts: list[Prompt]
    ids: Any
    """Input of the decoder, int64 `[rows × beams, tokens]`: the prompt, or the start token."""
    encoder_ids: Any
    """Input of the encoder, or the prompt, `[rows, tokens]`; processors read it."""
    processors: Any
    config: Any
    """The generation configuration with its special tokens as tensors."""
    kwargs: dict[str, Any]
    """Keyword arguments of the model: cache, masks, the encoder's output."""
    mask: GrammarMask | ChoiceMask | None = None
    """Keeps the answers to a grammar; the first of the processors."""


def start(
    model: Any, prompts: Sequence[Prompt], pad_id: int, grammar: Grammar | ChoicePaths | None = None
) -> Started:
    """Prepare the rows: the encoder runs, the decoder does not.

    All prompts need the same length without an encoder, and the same settings.
    """
    ids, mask = padded(prompts, pad_id, model.device)
    config = deepcopy(model.generation_config)
    config.max_new_tokens, config.max_length = max(it.max_new_tokens for it in prompts), None
    if prompts[0].first is not None:
        config.forced_bos_token_id = prompts[0].first  # of each row its own: see below
    found: Started = model.generate(
        ids, attention_mask=mask, generation_config=config, custom_generate=_hand_over
    )
    found.prompts, found.encoder_ids = list(prompts), ids
    with_first_tokens(found.processors, prompts, found.ids)
    if grammar is not None:
        found.mask = grammar.mask(found.ids.shape[1] + _forced(config, found.ids))
        found.processors.insert(0, found.mask)
    return found


def _forced(config: Any, ids: Any) -> int:
    """How many tokens are forced before an answer, which are no part of it."""
    return int(config.forced_bos_token_id is not None and ids.shape[1] == 1)


def padded(prompts: Sequence[Prompt], pad_id: int, device: Any) -> tuple[Any, Any]:
    """Token ids and mask, int64 `[rows, longest]`, padded on the right."""
    import torch

    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for at, prompt in enumerate(prompts):
        ids[at, : len(prompt.ids)] = torch.from_numpy(prompt.ids.astype("int64"))
        mask[at, : len(prompt.ids)] = 1
    return ids.to(device), mask.to(device)


def processors_of(model: Any, started: Started, encoder_ids: Any) -> Any:
    """New processors for fewer rows, since some processors store a value per row."""
    found = model._get_logits_processor(
        generation_config=started.config,
        input_ids_seq_length=started.ids.shape[1],
        encoder_input_ids=encoder_ids,
        device=encoder_ids.device,
        model_kwargs={},
    )
    if started.mask is not None:
        found.insert(0, started.mask)
    return found


def _hand_over(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **kwargs: Any,
) -> Started:
    return Started([], input_ids, None, logits_processor, generation_config, kwargs)
