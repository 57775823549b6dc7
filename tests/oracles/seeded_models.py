"""Tiny models whose weights come from NumPy's generator: the same with every version of torch.

python -m tests.oracles.seeded_models FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.unit.tiny_models import CONFIGS, save_tokenizer

FAMILIES = ("bert", "roberta")


def save_seeded(folder: Path, family: str, head: str, spread: float = 0.6) -> Path:
    """The family's tiny model with the head and its tokenizer in the folder."""
    import torch
    import transformers

    name, settings = CONFIGS[family]
    model = getattr(transformers, f"AutoModelFor{head}").from_config(
        getattr(transformers, name)(**settings)
    )
    draw = np.random.default_rng(7)
    with torch.no_grad():
        for key, weight in sorted(model.named_parameters()):
            values = draw.normal(0.0, spread, tuple(weight.shape)).astype(np.float32)
            weight.copy_(torch.from_numpy(1 + values / 10 if "LayerNorm.weight" in key else values))
    model.eval().save_pretrained(folder)
    save_tokenizer(folder, types=family == "bert")
    return folder


if __name__ == "__main__":
    for each in FAMILIES:
        save_seeded(Path(sys.argv[1]) / each, each, "QuestionAnswering")
