"""What becomes of a chunk that is neither queued nor leased: it has a part, waits, or is parked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.coordination.attempts import DEATHS, retry_decision
from schemas.records.manifest import Attempt, Parked

FATAL = frozenset({"input_changed", "model_changed"})
"""Causes that every other chunk of the job shares."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to be done with a lost chunk."""

    wait_s: float = 0.0
    """How long it waits before it is sent again."""
    isolated: bool = False
    """An attempt on it crashed: it is sent by itself."""
    parked: Parked | None = None
    """The record to write where it is not sent again."""
    fatal: str | None = None
    """Why the job cannot end well."""


def fate_of(
    chunk: int,
    attempts: Sequence[Attempt],
    rows: int,
    max_attempts: int,
    now_at: float,
    jitter: float,
) -> Fate:
    """The fate of a chunk of so many rows with these failed attempts and no part. Pure.

    `now_at` is in seconds since the epoch, `jitter` between 0 and 1.
    """
    isolated = any(a.cause in DEATHS for a in attempts)
    decision = retry_decision(attempts, rows, max_attempts, jitter)
    if decision.parked is None:
        return Fate(decision.wait_s, isolated)
    record = Parked(
        chunk=chunk,
        cause=decision.parked,
        message=decision.message,
        attempts=len(attempts),
        at_s=now_at,
    )
    fatal = decision.message if decision.parked in FATAL else None
    return Fate(isolated=isolated, parked=record, fatal=fatal)
