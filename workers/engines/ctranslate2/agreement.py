"""Compares the log probabilities of a converted model with those of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LENGTHS, ANSWER = (5, 12), 6
"""Chosen: tokens of the two test prompts (one of them is padded), and tokens after each."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Log probabilities by transformers, for a few rows of random tokens."""

    prompts: Sequence[list[int]]
    answers: Sequence[list[int]]
    logprobs: Sequence[np.ndarray]
    """Of each answer's tokens, float32 `[answer]`."""
    is_encoder_decoder: bool

    def largest_difference(self, folder: Path, words: Sequence[str]) -> float:
        """The largest difference from the converted model, in float32 on the CPU."""
        import ctranslate2

        prompts, answers = ([[words[i] for i in it] for it in both] for both in self._both())
        if self.is_encoder_decoder:
            engine = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
            found = engine.score_batch(prompts, answers, max_input_length=0)
            given = [it.log_probs[:ANSWER] for it in found]
        else:
            engine = ctranslate2.Generator(str(folder), compute_type="float32", intra_threads=1)
            whole = [a + b for a, b in zip(prompts, answers, strict=True)]
            found = engine.score_batch(whole, max_input_length=0)
            given = [it.log_probs[-ANSWER:] for it in found]
        return max(float(np.abs(a - b).max()) for a, b in zip(given, self.logprobs, strict=True))

    def _both(self) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        return self.prompts, self.answers


def numbers_of(model: Any, config: Any) -> Numbers:
    """The log probabilities of a transformers model, in float32 on the CPU."""
    from workers.models.load import text_config_of

    size, random = int(text_config_of(config).vocab_size), np.random.default_rng(0)
    low, high = size // 4, size * 3 // 4
    prompts = [random.integers(low, high, length).tolist() for length in LENGTHS]
    answers = [random.integers(low, high, ANSWER).tolist() for _ in prompts]
    both = zip(prompts, answers, strict=True)
    return Numbers(
        prompts, answers, [_logprobs(model, *it) for it in both], bool(config.is_encoder_decoder)
    )


def _logprobs(model: Any, prompt: list[int], answer: list[int]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            given = torch.tensor([[model.config.decoder_start_token_id, *answer[:-1]]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=given).logits[0]
            if model.config.model_type == "marian":  # whose padding CTranslate2 leaves out
                logits[:, model.config.pad_token_id] = -torch.inf
        else:
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, -ANSWER - 1 : -1]
        chosen = torch.tensor(answer)[:, None]
        found: np.ndarray = logits.log_softmax(-1).gather(-1, chosen)[:, 0].numpy()
        return found
