"""The start of rows that go together: made ready by `generate` itself, which then hands them over.

`generate` runs the encoder, makes cache, processors and special tokens, and calls the decoding
method that it was given. Ours returns what it gets, and the steps are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from workers.engines.generating.base import Prompt


@dataclass(slots=True)
class Started:
    """Rows before their first step."""

    prompts: list[Prompt]
    ids: Any
    """What the decoder has, int64 `[rows × beams, tokens]`: the prompt, or its start token."""
    encoder_ids: Any
    """What an encoder was given, or the prompt, `[rows, tokens]`; processors read it."""
    processors: Any
    config: Any
    """The generation configuration with its special tokens as tensors."""
    kwargs: dict[str, Any]
    """Of the model: its cache, masks, the encoder's output."""


def start(model: Any, prompts: Sequence[Prompt], pad_id: int) -> Started:
    """The rows, made ready; the encoder has run, the decoder has not.

    Without an encoder the prompts must have one length. All have one `max_new_tokens`.
    """
    ids, mask = padded(prompts, pad_id, model.device)
    config = deepcopy(model.generation_config)
    config.max_new_tokens, config.max_length = prompts[0].max_new_tokens, None
    found: Started = model.generate(
        ids, attention_mask=mask, generation_config=config, custom_generate=_hand_over
    )
    found.prompts, found.encoder_ids = list(prompts), ids
    return found


def padded(prompts: Sequence[Prompt], pad_id: int, device: Any) -> tuple[Any, Any]:
    """Token ids and mask, int64 `[rows, longest]`, filled up on the right."""
    import torch

    longest = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for at, prompt in enumerate(prompts):
        ids[at, : len(prompt.ids)] = torch.from_numpy(prompt.ids.astype("int64"))
        mask[at, : len(prompt.ids)] = 1
    return ids.to(device), mask.to(device)


def processors_of(model: Any, started: Started, encoder_ids: Any) -> Any:
    """The processors again, for fewer rows: some hold a value of each row."""
    return model._get_logits_processor(
        generation_config=started.config,
        input_ids_seq_length=started.ids.shape[1],
        encoder_input_ids=encoder_ids,
        device=encoder_ids.device,
        model_kwargs={},
    )


def _hand_over(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **kwargs: Any,
) -> Started:
    return Started([], input_ids, None, logits_processor, generation_config, kwargs)
