"""Layers that the weights have and config.json leaves out. Names only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.tasks.weight_files import LAYER

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
"""Names of the number of layers in configurations."""
PARTS = ("text_config", "text_encoder", "encoder", "encoder_config")


def layers_left_out(names: Iterable[str], config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence if the weights have more layers than config.json says, which would not run.

    Says nothing where one stack of layers has the number that config.json says.
    """
    wanted = _layers(config)
    stacks: dict[str, int] = {}
    for name in names:
        if found := LAYER.match(name):
            stacks[found["of"]] = max(stacks.get(found["of"], 0), int(found["number"]) + 1)
    if wanted is None or not stacks or wanted in stacks.values():
        return
    stack, most = max(stacks.items(), key=lambda item: item[1])
    if most > wanted:
        yield (
            f"its weights have {most} layers ({stack}) and config.json says {wanted}: the others do "
            "not run; is it this model's config.json?"
        )


def _layers(config: Mapping[str, Any]) -> int | None:
    for name in COUNTS:
        count = config.get(name)
        if isinstance(count, int) and not isinstance(count, bool):
            # layers for tokens further ahead, which no task here uses
            more = config.get("num_nextn_predict_layers")
            return count + (more if isinstance(more, int) else 0)
    parts = (config.get(part) for part in PARTS)
    return next((n for p in parts if isinstance(p, Mapping) and (n := _layers(p))), None)
