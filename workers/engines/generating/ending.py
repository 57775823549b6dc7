"""Turns a row's tokens into its answer: the text, and why it ended; finds stop texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import InvalidRow
from workers.engines.generating.base import Answer, FinishReason, Prompt

NEAR_END = 8
"""A stop text is searched in its own length of tokens, plus these. Chosen: a token is at least one
letter, except for special tokens and parts of letters."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the rows of a job end."""

    tokenizer: Any
    stop: tuple[str, ...]
    ends: frozenset[int]
    """Tokens that end an answer."""

    def answer(self, prompt: Prompt, tokens: Sequence[int], logprob: float) -> Answer:
        """The answer for a row that has ended."""
        text = self._text(tokens)
        cuts = [text.find(stop) for stop in self.stop if stop in text]
        reason: FinishReason = "stop" if cuts or tokens[-1] in self.ends else "length"
        if cuts:
            text = text[: min(cuts)]
        return Answer(prompt.row, text, reason, len(tokens), logprob)

    def cut(self, prompt: Prompt, tokens: Sequence[int], logprob: float) -> Answer:
        """The answer for a row for which no next token is allowed: its text so far, or an error."""
        if not tokens:
            return Answer(prompt.row, error=InvalidRow("the model has no token that is allowed"))
        return Answer(prompt.row, self._text(tokens), "length", len(tokens), logprob)

    def has_stop(self, tokens: Sequence[int]) -> bool:
        """Whether the last of these tokens contain a stop text."""
        if not self.stop:
            return False
        near = max(map(len, self.stop)) + NEAR_END
        text = self._text(tokens[-near:])
        return any(stop in text for stop in self.stop)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
