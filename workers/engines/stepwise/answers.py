"""The result of one decoding step of rows that started together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from schemas.errors import NotFinite
from workers.engines.generating.base import Answer, Prompt


class Step(NamedTuple):
    """The result of one decoding step."""

    answers: list[Answer]
    select: Any
    """Indices of the model's rows that continue, in order, int64 `[k]`; None: all rows, unchanged."""
    dropped: bool
    """True if rows have ended; otherwise `select` only reorders the beams of each row."""


def not_finite(prompt: Prompt) -> Answer:
    """The answer for a row whose logits are NaN or infinite."""
    return Answer(prompt.row, error=NotFinite("the model gave NaN or infinity for this row"))


def left_of(prompts: Sequence[Prompt], gone: Collection[int]) -> list[int]:
    """Indices of the prompts that continue."""
    return [at for at in range(len(prompts)) if at not in gone]
