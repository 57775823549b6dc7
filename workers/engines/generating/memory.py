"""The token budget of the caches of running rows, from the free memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil

from workers.devices import device
from workers.devices.host_memory import container_limit_bytes, container_used_bytes
from workers.models.load import text_config_of

CACHE_SHARE = {"cpu": 0.4, "cuda": 0.7}
"""Share of the free memory for caches. Chosen: a step copies a layer's cache, and logits need room."""
MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Rows in one batch. Chosen: with a tiny model on a CPU, 64 took a fifth of the time of 8."""
MOST_TOKENS = 1 << 22


def budget_tokens(model: Any, where: str, threads: int) -> int:
    """Largest number of tokens of all running rows together, at least one."""
    share = CACHE_SHARE[device.kind_of(where)]
    free = free_bytes(threads) if where == device.CPU else _free_of_gpu()
    return max(1, min(MOST_TOKENS, int(free * share / bytes_per_token(model))))


def bytes_per_token(model: Any) -> int:
    """Bytes of one token's keys and values in all layers (of the decoder, if there is an encoder)."""
    config = text_config_of(model.config)
    layers = getattr(config, "decoder_layers", None) or getattr(config, "num_decoder_layers", None)
    layers = layers or config.num_hidden_layers
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    size = size or config.hidden_size // heads
    heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * layers * heads * size * model.dtype.itemsize)


def free_bytes(threads: int, *of_container: Path) -> int:
    """This process's share of the free memory: a host has one worker per core."""
    found = psutil.virtual_memory().available
    limit, used = container_limit_bytes(*of_container), container_used_bytes(*of_container)
    if limit is not None and used is not None:
        found = min(found, max(0, limit - used))
    return int(found * min(1.0, threads / (os.cpu_count() or 1)))


def _free_of_gpu() -> int:
    used, total = device.memory_of()
    return total - used
