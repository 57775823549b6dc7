"""What a prompt of its own kind has beside its tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

from headrace.tasks.generation.settings import GenerationSettings


class OwnPrompt(NamedTuple):
    """A prompt as text, and how its answer differs from those of other rows."""

    text: str
    first: int | None = None
    """The token that the answer begins with; None: the model chooses it."""
    settings: GenerationSettings | None = None
    """The row's own; None: the job's."""
    seed: int | None = None
    most_new: int | None = None
    """Most tokens of the answer; None: as its settings say."""


def own_prompt(extra: Any) -> OwnPrompt:
    """What `Encodings.extra` has for a row: such a prompt, or its text alone."""
    return extra if isinstance(extra, OwnPrompt) else OwnPrompt(str(extra))
