"""How many tokens the model reads of a text in windows, for estimates."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

SINGLE, PAIR = 2, 3
"""Special tokens of a text and of a pair in most encoders; RoBERTa has one more in a pair."""


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Windows of at most `tokens` tokens, with a second text of `question_bytes` bytes in each.

    Neighbouring windows share `shared` tokens of the text.
    """

    tokens: int
    shared: int
    question_bytes: int

    def scored(self, length: int, bytes_per_token: float) -> float:
        """Tokens of all windows of a text that has `length` tokens with its special ones."""
        text_tokens = max(0, length - SINGLE)
        beside = self.question_bytes / bytes_per_token + PAIR
        windows = self._count(text_tokens, max(1.0, self.tokens - beside))
        return text_tokens + (windows - 1) * self.shared + windows * beside

    def _count(self, text_tokens: int, room: float) -> int:
        """Windows of a text without its special tokens, each with room for so many of them."""
        if text_tokens <= room:
            return 1
        return 1 + ceil((text_tokens - room) / max(1.0, room - self.shared))
