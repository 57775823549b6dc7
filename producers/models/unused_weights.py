"""Weights that would not run: layers and adapters left out, names with a foreign prefix. Names only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from headrace.tasks.weight_files import ADAPTER, LAYER
from schemas.errors import ModelError

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
"""Names of the number of layers in configurations."""
WRAPPERS = {
    "module": "DistributedDataParallel",
    "_orig_mod": "torch.compile",
    "_forward_module": "DeepSpeed or Lightning",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
"""What training puts around a model: the part of a weight's name → what puts it there."""
HEAD_BELOW = re.compile(
    r"^(?P<prefix>[^.]+)\.(classifier|pre_classifier|score|logits_proj|classification_head|qa_outputs)\."
)
"""A head one level down; in all families of transformers 5.23 it is at the top."""
PARTS = ("text_config", "text_encoder", "encoder", "encoder_config")


def layers_left_out(names: Iterable[str], config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence if the weights have more layers than config.json says, which would not run.

    Says nothing where one stack of layers has the number that config.json says.
    """
    wanted = layer_count(config, ahead=True)
    stacks = {of: max(numbers) + 1 for of, numbers in _stacks(names).items()}
    if wanted is None or not stacks or wanted in stacks.values():
        return
    stack, most = max(stacks.items(), key=lambda item: item[1])
    if most > wanted:
        yield (
            f"its weights have {most} layers ({stack}) and config.json says {wanted}: the others do "
            "not run; is it this model's config.json?"
        )


def unmerged_adapters(names: Iterable[str]) -> Iterator[str]:
    """A sentence if the weights have an adapter beside the layers, which would not run."""
    found = sorted(filter(ADAPTER.search, names))
    if found:
        yield (
            f"its weights have {len(found)} matrices of an adapter that is not merged, which do not "
            f"run: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}"
        )


def check_prefix(names: Collection[str], where: str) -> None:
    """Check that the weights have the model's own names, as `save_pretrained` writes them.

    Raises:
        ModelError: all are below the name of something that was around the model: none would be
            taken, and the model would be random.
    """
    wrapped = [name for name in names if not WRAPPERS.keys().isdisjoint(name.split("."))]
    heads = {found["prefix"] for name in names if (found := HEAD_BELOW.match(name))}
    if wrapped:
        example = sorted(wrapped)[0]
        part = next(part for part in example.split(".") if part in WRAPPERS)
        said = f"`{part}.` of {WRAPPERS[part]}"
    elif len(heads) == 1 and all(name.startswith(f"{min(heads)}.") for name in names):
        example, said = sorted(names)[0], f"`{min(heads)}.` of another class around the model"
    else:
        return
    raise ModelError(
        f"model {where}: names of its weights hold {said} ({example}), so that none would be loaded; "
        "save the model inside with save_pretrained, or take that part off the names"
    )


def check_layers(names: Iterable[str], config: Mapping[str, Any], where: str) -> None:
    """Check that the weights have the layers that config.json says, where one stack has them all.

    Raises:
        ModelError: the only stack is shorter, or a layer in it is missing: it would be random.
    """
    wanted, stacks = layer_count(config), _stacks(names)
    if wanted is None or len(stacks) != 1:
        return
    ((stack, numbers),) = stacks.items()
    missing = [n for n in range(wanted) if n not in numbers]
    if missing:
        raise ModelError(
            f"model {where}: config.json says {wanted} layers, and its weights lack {len(missing)} of "
            f"them ({stack}.{missing[0]}{', …' if len(missing) > 1 else ''}), which would be random"
        )


def _stacks(names: Iterable[str]) -> dict[str, set[int]]:
    """Numbers of the layers in each stack of layers."""
    stacks: dict[str, set[int]] = {}
    for name in names:
        if found := LAYER.match(name):
            stacks.setdefault(found["of"], set()).add(int(found["number"]))
    return stacks


def layer_count(config: Mapping[str, Any], ahead: bool = False) -> int | None:
    """Number of layers; with `ahead` those for tokens further ahead too, which no task here uses."""
    for name in COUNTS:
        count = config.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            more = config.get("num_nextn_predict_layers") if ahead else None
            return count + (more if isinstance(more, int) else 0)
    parts = (config.get(part) for part in PARTS)
    found = (layer_count(part, ahead) for part in parts if isinstance(part, Mapping))
    return next((n for n in found if n), None)
