"""What an engine that generates gives for a prompt, and what it calls while it works."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]
"""`stop`: an end token or a stop text; `length`: as many tokens as were allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a prompt."""

    row: int
    text: str = ""
    """Without special tokens, and without the stop text that ended it."""
    finish_reason: FinishReason = "stop"
    n_generated: int = 0
    """Tokens, the one that ended it included."""
    logprob: float | None = None
    """Sum of the natural logarithms of the tokens' probabilities; None: the engine knows none."""
    error: Exception | None = None
    """Why there is no text; the other fields have no meaning then."""


class Watch(Protocol):
    """Gets the events of an engine."""

    def check(self) -> None:
        """Between two steps. Raises Stopped or LeaseLost where the work should end here."""

    def holding(self, rows: Collection[int]) -> None:
        """These rows, by `Prompt.row`, are with the model from now on, and no others."""

    def stepped(self, *, rows: int, tokens: int) -> None:
        """A forward pass ended: rows in it, and tokens that it computed, padding included."""

    def out_of_memory(self, tokens: int) -> None:
        """A batch of this many tokens did not fit, and is tried again with fewer rows."""
