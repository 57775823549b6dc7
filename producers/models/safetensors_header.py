"""How large a model is, by the headers of its safetensors files alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.storage.store import Store

_MAX_HEADER_BYTES = 100 << 20  # required: the safetensors library's own limit


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters counted in the headers of safetensors files."""

    parameters: int
    embeddings: int


def read_weights(folder: Path) -> Weights | None:
    """Parameters of the model's safetensors files; None when there are none or they are damaged."""
    counted: list[Weights] = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            weights = count_weights(file)
        if weights is None:
            return None
        counted.append(weights)
    return _sum(counted)


def count_weights(file: Any) -> Weights | None:
    """Parameters in the header of one open safetensors file; None when it has no sound header.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    length = int.from_bytes(bytes(file.read(8)), "little")
    if not 2 <= length <= _MAX_HEADER_BYTES:
        return None
    total = embeddings = 0
    try:
        for name, tensor in json.loads(bytes(file.read(length))).items():
            if name == "__metadata__":
                continue
            size = 1
            for extent in tensor["shape"]:
                size *= int(extent)
            total += size
            embeddings += size if "embed" in name and name.endswith("weight") else 0
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Weights(total, embeddings)


def _sum(counted: list[Weights]) -> Weights | None:
    if not counted:
        return None
    return Weights(sum(w.parameters for w in counted), sum(w.embeddings for w in counted))


def store_weights(store: Store, names: list[str]) -> Weights | None:
    counted: list[Weights] = []
    for name in names:
        with store.open(name) as file:
            weights = count_weights(file)
        if weights is None:
            return None
        counted.append(weights)
    return _sum(counted)
