"""Reads the headers of safetensors files: names and shapes of tensors, and whether a file is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_HEADER_BYTES = 100 << 20  # required: the safetensors library's own limit
FLOATS = ("F8", "F4", "F6", "F1", "F3", "BF", "C6")  # F16, F32, F64, BF16, F8_E4M3, …, C64

Shapes = Mapping[str, tuple[int, ...]]
"""The extents of each tensor, by its name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's numbers in its file."""

    dtype: str
    """As the format writes it: F32, BF16, …"""
    shape: tuple[int, ...]
    start: int
    """Its first byte, counted from the file's."""
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file."""

    shapes: Shapes
    bytes_needed: int
    """Of the whole file, header and tensors."""
    not_floats: tuple[str, ...] = ()
    """Weights whose numbers are no floating-point numbers."""
    places: Mapping[str, Place] = field(default_factory=dict)


def read_header(file: Any) -> Header | None:
    """The header of an open safetensors file; None if it is invalid.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    length = int.from_bytes(bytes(file.read(8)), "little")
    if not 2 <= length <= _MAX_HEADER_BYTES:
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    not_floats: list[str] = []
    places: dict[str, Place] = {}
    end = 0
    try:
        for name, tensor in json.loads(bytes(file.read(length))).items():
            if name != "__metadata__":
                shapes[name] = tuple(int(extent) for extent in tensor["shape"])
                if name.endswith(".weight") and tensor["dtype"][:2] not in FLOATS:
                    not_floats.append(name)
                start, stop = (8 + length + int(offset) for offset in tensor["data_offsets"])
                places[name] = Place(tensor["dtype"], shapes[name], start, stop)
                end = max(end, stop)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return Header(shapes, max(end, 8 + length), tuple(not_floats), places)


@dataclass(frozen=True, slots=True)
class Weights:
    """How large a model is."""

    parameters: int
    embeddings: int
    """Number of parameters in embedding tables."""


def count(shapes: Shapes) -> Weights | None:
    """Number of parameters of the tensors; None without tensors."""
    if not shapes:
        return None
    total = embeddings = 0
    for name, shape in shapes.items():
        size = 1
        for extent in shape:
            size *= extent
        total += size
        embeddings += size if "embed" in name and name.endswith("weight") else 0
    return Weights(total, embeddings)
