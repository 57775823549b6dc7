"""Records of a retraining: why it began, with what, and how it ended."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetrainingBegun(_Record):
    """`begun.json`: created only if absent, so that a second call continues the same retraining."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    date: str
    reasons: tuple[str, ...]
    labels: int
    """Labelled rows."""
    base: str
    champion: int | None
    """The version that the alias pointed to; None: it pointed to none."""
    moves: int
    """Moves of the alias then: it is moved only if no other came since."""


class RetrainingVerdict(_Record):
    """`verdict.json`: written last, only if absent."""

    candidate: int
    """The version of the new model."""
    passed: bool
    refused: tuple[str, ...] = ()
    delta: float | None = None
    """Accuracy of the candidate less that of the champion on the holdout, of entities F1; None:
    no champion."""
    accuracy: float | None = None
    """Of the candidate; None: it finds entities."""
    f1: float | None = None
    """Of the candidate's entities."""
