"""Hands the boundaries of a packed batch to the module inside a model that computes with them.

The heads of some families do not pass an argument of ours on to the model below them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from workers.engines.packed.attention import Packing

_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)


def current_packing() -> Packing | None:
    """The boundaries of the batch that this thread computes; None: it is not packed."""
    return _PACKING.get()


def take_packing(model: Any) -> list[Any]:
    """Let the model and its base model take `packing=` and keep it for the modules inside.

    Returns the modules whose `forward` was replaced, as an attribute of the instance.
    """
    changed = [model] if model.base_model is model else [model, model.base_model]
    for module in changed:
        module.forward = partial(_forward, module.forward)
    return changed


def _forward(
    whole: Callable[..., Any], *args: Any, packing: Packing | None = None, **inputs: Any
) -> Any:
    if packing is None:
        return whole(*args, **inputs)
    token = _PACKING.set(packing)
    try:
        return whole(*args, **inputs)
    finally:
        _PACKING.reset(token)
