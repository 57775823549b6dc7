"""Forces the first token of each row, where rows have languages of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.engines.generating.base import Prompt


class FirstTokens:
    """A processor of logits: as transformers' `ForcedBOSTokenLogitsProcessor`, a token for each row."""

    def __init__(self, tokens: Any) -> None:
        """`tokens` is int64 `[rows × beams]`."""
        self._tokens = tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores `[rows × beams, vocabulary]` with which that token is chosen, in the first step."""
        if input_ids.shape[-1] != 1:
            return scores
        import torch

        forced = torch.full_like(scores, -torch.inf)
        forced[torch.arange(len(scores), device=scores.device), self._tokens] = 0
        return forced


def with_first_tokens(processors: Any, prompts: Sequence[Prompt], ids: Any) -> None:
    """Put each row's own first token where the processor for one token is, if rows have them.

    `ids` are what the decoder is given, `[rows × beams, 1]`. Rows leave only after the first step,
    so later lists of processors may keep the one for all.
    """
    firsts = [prompt.first for prompt in prompts]
    if None in firsts:
        return
    import torch
    from transformers.generation.logits_process import ForcedBOSTokenLogitsProcessor

    tokens = torch.tensor(firsts, device=ids.device).repeat_interleave(len(ids) // len(prompts))
    for at, it in enumerate(processors):
        if isinstance(it, ForcedBOSTokenLogitsProcessor):
            processors[at] = FirstTokens(tokens)
