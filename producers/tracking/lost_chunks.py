"""Decides about a chunk that is neither queued nor leased: done, sent again, or parked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from headrace.coordination.attempts import DEATHS, Decision, retry_decision
from producers.tracking.failures import is_of_host, untried
from schemas.records.manifest import Attempt, Parked

INPUT_CHANGED = "input_changed"
FATAL = frozenset({INPUT_CHANGED, "model_changed"})
"""Causes that every other chunk of the job shares."""
MOST_WAIT_S = 5.0
"""Chosen: how long a chunk waits for another host, that it may not come back to the same one."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What to do with a lost chunk."""

    wait_s: float = 0.0
    """Seconds to wait before it is sent again."""
    isolated: bool = False
    """An attempt on it crashed: it is sent in a message of its own."""
    parked: Parked | None = None
    """The record to write if it is not sent again."""
    fatal: str | None = None
    """Why the job cannot succeed."""


def fate_of(
    chunk: int,
    attempts: Sequence[Attempt],
    rows: int,
    max_attempts: int,
    now_at: float,
    jitter: float,
    *,
    hosts: AbstractSet[str] = frozenset(),
    is_unchanged: Callable[[], bool] = lambda: False,
) -> Fate:
    """The decision for a chunk of `rows` rows with these failed attempts and no part.

    `now_at` is in seconds since the epoch, `jitter` between 0 and 1; `hosts` are live and not
    excluded. While one of them has not failed on the chunk, host failures of the others do not
    count. `is_unchanged` checks the input itself; it is called only if a worker reported a change.
    """
    isolated = any(a.cause in DEATHS for a in attempts)
    if untried(attempts, hosts):
        counted = [a for a in attempts if not is_of_host(a)]
        decision = retry_decision(counted, rows, max_attempts, jitter)
        if decision.parked is None:
            failed = len(attempts) - len(counted)
            wait_s = min(MOST_WAIT_S, 2.0**failed / 2) * (0.5 + 0.5 * jitter) if failed else 0.0
            return Fate(max(wait_s, decision.wait_s), isolated)
    else:
        decision = retry_decision(attempts, rows, max_attempts, jitter)
        if decision.parked == INPUT_CHANGED and is_unchanged():
            patient = [a.model_copy(update={"retryable": True}) for a in attempts]
            decision = retry_decision(patient, rows, max_attempts, jitter)
            if decision.parked is not None:
                return Fate(isolated=isolated, parked=_record(chunk, attempts, decision, now_at))
    if decision.parked is None:
        return Fate(decision.wait_s, isolated)
    fatal = decision.message if decision.parked in FATAL else None
    record = _record(chunk, attempts, decision, now_at)
    return Fate(isolated=isolated, parked=record, fatal=fatal)


def _record(chunk: int, attempts: Sequence[Attempt], decision: Decision, now_at: float) -> Parked:
    return Parked(
        chunk=chunk,
        cause=decision.parked or "",
        message=decision.message,
        attempts=len(attempts),
        at_s=now_at,
    )
