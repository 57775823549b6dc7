"""What a chunk's generation took: tokens read and written, and how soon the first ones came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class GenerationCounts:
    """Counters of a chunk whose rows are generated, updated while it runs."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    """Of rows with a text."""
    seconds: float = 0.0
    """While the engine had rows."""
    first_tokens: list[tuple[int, float]] = field(default_factory=list)
    """Rows that started together, and seconds until their first token, if the engine tells it."""

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens written a second; None if no row ran."""
        return self.generated_tokens / self.seconds if self.seconds else None

    @property
    def first_token_s(self) -> float | None:
        """Mean seconds until a row's first token; None if it is not known."""
        rows = sum(count for count, _ in self.first_tokens)
        return sum(count * s for count, s in self.first_tokens) / rows if rows else None

    def attributes(self) -> dict[str, Any]:
        """The same for a span; empty if nothing was generated."""
        if not self.prompt_tokens:
            return {}
        return {
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "generated_tokens_per_s": self.tokens_per_s,
            "time_to_first_token_s": self.first_token_s,
        }
