"""LoRA: the base is frozen, small matrices beside its linear layers are trained, then merged into
it.

The adapter is injected into the model itself, so that checkpoints, evaluations and the version are
those of any training.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.errors import ModelError
from schemas.records.training import Lora

POOLER = "pooler"
"""The pooler is trained with the head: many bases have none, so that its weights are random."""


def add_adapters(model: Any, lora: Lora) -> None:
    """Add adapters to the layers; only they and the head are trained. In place.

    Matrices are drawn from torch's generator: seed it before.

    Raises:
        ModelError: the model has no layer of a name that was asked for.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = list(linear_layers(model))
    chosen = [name for name in layers if not lora.targets or _is_named(name, lora.targets)]
    missing = [t for t in lora.targets if not any(_is_named(name, (t,)) for name in layers)]
    if missing or not chosen:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise ModelError(
            f"--lora-targets: no linear layer is called {', '.join(missing)}; there are {', '.join(names)}"
        )
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=chosen, lora_dropout=0.0)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if is_head(model, name):
            parameter.requires_grad_(True)


def merge_adapters(model: Any) -> None:
    """Merge the adapters into their layers, and remove them. In place."""
    from peft.tuners.lora import LoraLayer

    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]
    for name, layer in found:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    model.requires_grad_(True)


def is_head(model: Any, name: str) -> bool:
    """Whether the module or parameter belongs to the head, which is trained as a whole."""
    return not name.startswith(f"{model.base_model_prefix}.") or POOLER in name.split(".")


def linear_layers(model: Any) -> Iterator[str]:
    """Names of the encoder's linear layers, in order."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | Conv1D) and not is_head(model, name):
            yield name


def _is_named(name: str, targets: tuple[str, ...]) -> bool:
    """Whether the layer's name ends with one of these, `query` or `attention.output.dense`."""
    return any(f".{name}".endswith(f".{target}") for target in targets)
