"""The answer to a prompt, and the callbacks of an engine that generates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]
"""`stop`: an end token or a stop text; `length`: as many tokens as were allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a prompt: a text or an error."""

    row: int
    text: str = ""
    """The text, without special tokens and without the stop text that ended it."""
    finish_reason: FinishReason = "stop"
    n_generated: int = 0
    """Number of new tokens, including the end token."""
    logprob: float | None = None
    """Sum of the tokens' log probabilities (natural); None if the engine does not report it."""
    error: Exception | None = None
    """Why there is no text; if set, ignore the other fields."""
    reasoning: str | None = None
    """What the model thought first, if that is apart from the text."""
    n_prompt: int | None = None
    """Tokens of the prompt, if only the engine counts them."""
    samples: tuple[Answer, ...] = ()
    """All samples, where a row has several; `n_generated` is then their sum."""


class Watch(Protocol):
    """Callbacks of an engine while it generates."""

    def check(self) -> None:
        """Called between two steps. Raises Stopped or LeaseLost if the work should end."""

    def holding(self, rows: Collection[int]) -> None:
        """Called when the set of running rows changes: exactly these, by `Prompt.row`."""

    def stepped(self, *, rows: int, tokens: int) -> None:
        """Called after a forward pass, with its rows and computed tokens, padding included."""

    def first_tokens(self, rows: int, seconds: float) -> None:
        """Called if so many rows that started together have their first token, after this time.

        An engine that learns of tokens only with the whole answer does not call it.
        """

    def out_of_memory(self, tokens: int) -> None:
        """Called if a batch of this many tokens ran out of memory; it runs again with fewer rows."""
