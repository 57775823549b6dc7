"""How fast a worker will be, from the size of its model: a guess to size chunks by. Pure."""

from __future__ import annotations

from producers.capacity.device_hint import DeviceHint

CPU_FLOPS_PER_CORE = 40e9
"""Chosen: what float32 encoders reach on one core of a cloud machine, give or take a half."""
GPU_FLOPS = {True: 150e12, False: 8e12}
"""Chosen: a third of an A100's bfloat16, half of a T4's float32; with and without bfloat16."""
MAX_TOKENS_PER_S = 1_000_000.0
"""Chosen: about what one process tokenizes; no device is fed faster."""
WITHOUT_MODEL_TOKENS_PER_S = 500_000.0
UNKNOWN_PARAMETERS = 110_000_000
"""Of a BERT-base, where the files do not say."""


def tokens_per_s(
    parameters: int | None, embeddings: int, hint: DeviceHint, has_model: bool
) -> float:
    """Tokens one worker scores in a second: two operations a parameter that is not looked up."""
    if not has_model:
        return WITHOUT_MODEL_TOKENS_PER_S
    working = max(1_000, (parameters or UNKNOWN_PARAMETERS) - embeddings)
    flops = GPU_FLOPS[hint.bf16] if hint.kind == "cuda" else CPU_FLOPS_PER_CORE * hint.cores
    return min(MAX_TOKENS_PER_S, flops / (2.0 * working))
