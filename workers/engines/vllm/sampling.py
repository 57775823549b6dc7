"""A job's settings as vLLM's parameters of a row. Pure.

Source: `SamplingParams` of vLLM 0.32, and what `generate` of transformers 5.23 takes where a setting
is not stated.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from headrace.tasks.generation.settings import GenerationSettings
from workers.engines.generating.base import Prompt

TOP_K = 50
"""What transformers takes if a job that samples states none."""


def params_of(settings: GenerationSettings, prompt: Prompt, seed: int) -> dict[str, Any]:
    """The parameters of this row; those that vLLM lacks were refused."""
    values = settings.values
    found: dict[str, Any] = {
        "max_tokens": prompt.max_new_tokens,
        "min_tokens": min(prompt.max_new_tokens, _least(settings, len(prompt.ids))),
        # the model's own end tokens are not vLLM's to choose
        "ignore_eos": True,
        "stop_token_ids": sorted(settings.ends),
        "temperature": 0.0,
        "repetition_penalty": float(values.get("repetition_penalty") or 1.0),
        "watched": bool(settings.stop),
    }
    if values.get("do_sample"):
        found |= {
            "temperature": float(values.get("temperature", 1.0)),
            "top_p": float(values.get("top_p", 1.0)),
            "top_k": int(values.get("top_k", TOP_K)),
            "min_p": float(values.get("min_p") or 0.0),
            "seed": row_seed(seed, prompt.key),
        }
    return found


def row_seed(seed: int, key: bytes) -> int:
    """The seed of a row, from the job's seed and the prompt: a retry has the same."""
    return int.from_bytes(blake2b(b"%d\0" % seed + key, digest_size=8).digest(), "little") >> 2


def _least(settings: GenerationSettings, prompt_tokens: int) -> int:
    """Smallest number of new tokens after a prompt of so many."""
    if settings.values.get("min_new_tokens"):
        return int(settings.values["min_new_tokens"])
    return max(0, int(settings.values.get("min_length") or 0) - prompt_tokens)
