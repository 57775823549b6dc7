"""Options of tasks that read a text longer than the model in windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.tasks.items.questions import USUAL_STRIDE
from schemas.errors import ConfigError

WINDOW = "window"


def reads_windows(params: Mapping[str, Any]) -> bool:
    """Whether a text that is longer than the model is read in windows, and not cut."""
    return params.get("long_text") == WINDOW


def settle(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same parameters.

    Raises:
        ConfigError: an option of windows without windows, a stride below zero, or tokens that are
            not grouped, which cannot be brought together.
    """
    stride = params.get("stride")
    if stride is not None and stride < 0:
        raise ConfigError(f"--stride {stride}: at least 0")
    if not reads_windows(params):
        for name in ("stride", "combine"):
            if params.get(name) is not None:
                raise ConfigError(f"--{name} has no meaning without --long-text window")
    elif params.get("aggregation") == "none":
        raise ConfigError("--long-text window needs entities: --aggregation none leaves tokens")
    return params


def stride_in(params: Mapping[str, Any], room: int, *, is_shared: bool) -> int:
    """Tokens that neighbouring windows share; `room` is what a window has for a text.

    `is_shared`: where no option says so, windows share tokens; else each token is in one window.

    Raises:
        ConfigError: so many that a window would hold nothing new.
    """
    given: int | None = params.get("stride")
    if given is None:
        return min(room // 2, USUAL_STRIDE) if is_shared else 0
    if given >= room:
        raise ConfigError(f"--stride {given} must be less than the {room} tokens of a window")
    return given
