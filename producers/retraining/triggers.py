"""Decides whether to train again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from producers.retraining.policy import Triggers


@dataclass(frozen=True, slots=True)
class Signs:
    """Facts for the decision."""

    last: date | None
    """The day of the last training of this policy; None: there was none."""
    labels: int
    """Labelled rows now."""
    labels_then: int
    """Labelled rows at the last training."""
    drifted: tuple[str, ...] = ()
    """Features of the watched output that drifted."""
    expected_accuracy: float | None = None
    """Accuracy expected of the watched output; None if its scores give no estimate."""


def reasons(triggers: Triggers, signs: Signs, day: date) -> list[str]:
    """Reasons to train on this day; may be empty."""
    if triggers.are_none:
        return ["no trigger is set: every call trains"]
    found: list[str] = []
    if triggers.every_days is not None:
        if signs.last is None:
            found.append("no training of this policy yet")
        elif (days := (day - signs.last).days) >= triggers.every_days:
            found.append(f"the last training was {days} days ago")
    if triggers.drift and signs.drifted:
        found.append(f"drift of {', '.join(signs.drifted)}")
    least, now = triggers.min_expected_accuracy, signs.expected_accuracy
    if least is not None and now is not None and now < least:
        found.append(f"expected accuracy {now:.4f}, below {least:.4f}")
    more = signs.labels - signs.labels_then
    if triggers.new_labels is not None and more >= triggers.new_labels:
        found.append(f"{more:,} labelled rows more")
    return found
