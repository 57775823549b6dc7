"""Names in `--lora-targets`, checked against the weights of the base before anything is queued. Pure.

A worker checks them against the layers of the loaded model, but only after a first attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from producers.models.info import ModelInfo
from producers.models.safetensors_header import Shapes
from schemas.errors import ConfigError
from schemas.records.training import Lora

RENAMED = frozenset({"nomic_bert", "gte", "new", "jina_embeddings_v3"})
"""Families whose layers have other names in transformers than in their files.

Source: transformers 5.23, `conversion_mapping.py`
"""
NO_LAYER = re.compile(r"(^|\.)(pooler|cls|classifier|score|lm_head|qa_outputs)\.|embeddings?\.")
"""Heads, which are trained as a whole, and tables of embeddings."""


def check_lora_targets(lora: Lora | None, base: ModelInfo) -> None:
    """Check that some layer of the base has each name.

    Says nothing of a base whose weights cannot be seen here, or have other names when loaded.

    Raises:
        ConfigError: no layer's name ends so; the message lists the names.
    """
    if lora is None or not base.shapes or base.config.get("model_type") in RENAMED:
        return
    layers = list(layers_of(base.shapes))
    missing = [t for t in lora.targets if not any(f".{name}".endswith(f".{t}") for name in layers)]
    if layers and missing:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise ConfigError(
            f"--lora-targets: no linear layer of the base is called {', '.join(missing)}; there "
            f"are {', '.join(names)}"
        )


def layers_of(shapes: Shapes) -> Iterator[str]:
    """Names of the matrices that may be linear layers of the encoder, in order."""
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and len(shape) == 2 and not NO_LAYER.search(name):
            yield layer
