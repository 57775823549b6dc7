"""A folder that looks like a model to what reads files only: small, and whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

SHAPES = {
    "embeddings.word_embeddings.weight": (40, 10),
    "encoder.weight": (58, 10),
    "classifier.weight": (2, 10),
}
"""1,000 parameters, 400 of them embeddings, and a head of two labels."""
VOCABULARY = {"[UNK]": 0, "good": 1, "film": 2}


def write_model(
    folder: Path,
    architecture: str | None = "BertForSequenceClassification",
    weights: str = "safe",
    *,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    vocabulary: Mapping[str, int] | None = VOCABULARY,
    **config: Any,
) -> Path:
    """The folder. `weights`: `safe`, `pickle` or `none`; a vocabulary of None: no tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"max_position_embeddings": 128} | config
    if architecture:
        settings["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(settings))
    if vocabulary is not None:
        write_tokenizer(folder, vocabulary)
    if weights == "safe":
        write_weights(folder / "model.safetensors", shapes)
    elif weights == "pickle":
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def write_tokenizer(folder: Path, vocabulary: Mapping[str, int]) -> None:
    """A tokenizer of whole words, split at white space."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def write_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file in fp32; each number is 0.01149."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + b"\x3c" * end)
