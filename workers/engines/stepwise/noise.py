"""Noise of sampling: a function of seed, prompt, step and token, and of nothing else.

A row's tokens are then the same whatever its neighbours, after a retry, and on any device. The
token with the largest sum of logit and Gumbel noise is a draw from the softmax of the logits.

Source: Maddison, Tarlow, Minka, A* Sampling, 2014; Steele, Lea, Flood, Fast splittable
pseudorandom number generators, 2014 (SplitMix64).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
"""Of SplitMix64, as signed integers, whose products wrap in the same way."""
_BITS = 24
"""Of a uniform number: as many as a float32 holds."""


def stream_of(seed: int, key: bytes, step: int) -> int:
    """A signed integer of 64 bits for one step of one prompt."""
    text = b"%d\0%d\0" % (seed, step) + key
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little", signed=True)


def gumbel(streams: Any, tokens: Any) -> Any:
    """Noise of each stream for each token: int64 tensors of one shape to float32 of that shape."""
    mixed = streams + (tokens + 1) * _GOLDEN
    mixed = (mixed ^ _shifted(mixed, 30)) * _MIX[0]
    mixed = (mixed ^ _shifted(mixed, 27)) * _MIX[1]
    bits = _shifted(mixed ^ _shifted(mixed, 31), 64 - _BITS)
    uniform = (bits.double() + 0.5) / (1 << _BITS)
    return -((-uniform.log()).log()).float()


def draw(scores: Any, keys: Sequence[bytes], seed: int, step: int) -> Any:
    """A token for each row of `scores`, float32 `[rows, vocabulary]`; those at -inf are never drawn."""
    import torch

    streams = torch.tensor([stream_of(seed, key, step) for key in keys], device=scores.device)
    rows, tokens = torch.nonzero(scores > float("-inf"), as_tuple=True)
    noisy = torch.full_like(scores, float("-inf"))
    noisy[rows, tokens] = scores[rows, tokens] + gumbel(streams[rows], tokens)
    return noisy.argmax(dim=-1)


def _shifted(values: Any, bits: int) -> Any:
    """Shifted to the right as unsigned integers."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
