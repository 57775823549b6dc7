"""What a step of rows that started together came to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from schemas.errors import NotFinite
from workers.engines.generating.base import Answer, Prompt


class Step(NamedTuple):
    """What a step came to."""

    answers: list[Answer]
    select: Any
    """Which rows of the model continue, in their order, int64 `[k]`; None: all as they are."""
    dropped: bool
    """Whether rows left; else `select` only swaps the beams of each row."""


def not_finite(prompt: Prompt) -> Answer:
    """The answer of a row whose logits are no numbers."""
    return Answer(prompt.row, error=NotFinite("the model gave NaN or infinity for this row"))


def left_of(prompts: Sequence[Prompt], gone: Collection[int]) -> list[int]:
    """Places of the prompts that continue."""
    return [at for at in range(len(prompts)) if at not in gone]
