"""Random numbers for sampling: a function of seed, prompt, step and token only.

So a row gets the same tokens in any batch, after a retry, and on any device. The
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
"""Constants of SplitMix64, as signed integers: their products overflow in the same way."""
_BITS = 24
"""Bits of a uniform number: as many as float32 can hold."""


def stream_of(seed: int, key: bytes, step: int) -> int:
    """The 64-bit signed random stream of one step of one prompt."""
    text = b"%d\0%d\0" % (seed, step) + key
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little", signed=True)


def gumbel(streams: Any, tokens: Any) -> Any:
    """Gumbel noise for each pair of stream and token: int64 tensors in, float32 out, of one shape."""
    mixed = streams + (tokens + 1) * _GOLDEN
    mixed = (mixed ^ _shifted(mixed, 30)) * _MIX[0]
    mixed = (mixed ^ _shifted(mixed, 27)) * _MIX[1]
    bits = _shifted(mixed ^ _shifted(mixed, 31), 64 - _BITS)
    uniform = (bits.double() + 0.5) / (1 << _BITS)
    return -((-uniform.log()).log()).float()


def draw(scores: Any, streams: Sequence[int]) -> Any:
    """Sample a token for each row of `scores`, float32 `[rows, vocabulary]`; never one at -inf.

    `streams` has each row's `stream_of` this step.
    """
    import torch

    of_row = torch.tensor(streams, device=scores.device)
    rows, tokens = torch.nonzero(scores > float("-inf"), as_tuple=True)
    noisy = torch.full_like(scores, float("-inf"))
    noisy[rows, tokens] = scores[rows, tokens] + gumbel(of_row[rows], tokens)
    return noisy.argmax(dim=-1)


def _shifted(values: Any, bits: int) -> Any:
    """A logical right shift."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
