"""What a prompt of its own kind has beside its tokens."""

from __future__ import annotations

from typing import Any, NamedTuple


class OwnPrompt(NamedTuple):
    """A prompt as text, and how its answer differs from those of other rows."""

    text: str
    first: int | None = None
    """The token that the answer begins with; None: the model chooses it."""


def own_prompt(extra: Any) -> OwnPrompt:
    """What `Encodings.extra` has for a row: such a prompt, or its text alone."""
    return extra if isinstance(extra, OwnPrompt) else OwnPrompt(str(extra))
