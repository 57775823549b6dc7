"""What the failed attempts on a chunk say about its rows, and whether to retry.

A poison row crashes its process, so it cannot be caught, only found. Each crash leaves a record of
the rows that were in the model. The next attempt computes all other rows first, then the suspects
in quarters; the quarter that crashes becomes the next, smaller record. A row that has crashed twice
alone is a poison row. Healthy rows are never taken for one, since each group runs alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from headrace.coordination.leases import HANGING, HELD, LOADING, Mark
from headrace.storage.store import Store
from schemas.names import output_layout
from schemas.records.manifest import Attempt, parse_attempt

DEATHS = frozenset({"worker_lost", "timeout"})
CRASHES_OF_POISON = 2
"""Chosen: one crash of a row alone may have another cause, such as a full memory."""
PIECES = 4
"""Chosen: a crash costs a new process and a load of the model, one more small batch hardly anything.
One row of 1,000 takes 7 crashes in quarters, 12 in halves (tests/unit/coordination/test_attempts.py)."""
RETRY = "retry"
"""Cause of the record that `headrace retry --parked` writes: earlier attempts no longer park."""


@dataclass(frozen=True, slots=True)
class SuspectRows:
    """What the records of a chunk say about its rows."""

    groups: tuple[tuple[int, ...], ...] = ()
    """Computed after all other rows, each group alone, in this order."""
    poison: dict[int, str] = field(default_factory=dict)
    """Rows that crashed alone, with the cause; they are not computed again."""

    @property
    def suspects(self) -> frozenset[int]:
        return frozenset(row for group in self.groups for row in group)


@dataclass(frozen=True, slots=True)
class Decision:
    """Retry after `wait_s`, or park with `parked` as the cause."""

    wait_s: float = 0.0
    parked: str | None = None
    message: str = ""


def suspect_rows(attempts: Sequence[Attempt], rows: int) -> SuspectRows:
    """What the records of a chunk of `rows` rows say about them."""
    kills: dict[int, list[str]] = {}
    sets: set[frozenset[int]] = set()
    for attempt in attempts:
        if attempt.cause not in DEATHS:
            continue
        for found in _sets_of(attempt, rows):
            sets.add(found)
            if len(found) == 1:
                kills.setdefault(next(iter(found)), []).append(attempt.cause)
    poison = {row: causes[-1] for row, causes in kills.items() if len(causes) >= CRASHES_OF_POISON}
    return SuspectRows(_groups(sets, poison.keys()), poison)


def _sets_of(attempt: Attempt, rows: int) -> list[frozenset[int]]:
    """The sets of rows that one crash makes suspects."""
    if attempt.rows is None:
        return [frozenset(range(rows))]
    found = [frozenset(attempt.rows)]
    if attempt.encoding:
        found.append(frozenset(range(*attempt.encoding)))
    return [s for s in found if s]


def _groups(
    sets: Collection[frozenset[int]], poison: Collection[int]
) -> tuple[tuple[int, ...], ...]:
    """Disjoint groups: what is left of the wide sets as it is, the narrowest sets in quarters."""
    seen: set[int] = set(poison)
    wide: list[tuple[int, ...]] = []
    narrow: list[tuple[int, ...]] = []
    for rows in sorted(sets, key=lambda s: (len(s), sorted(s))):
        rest = sorted(rows - seen)
        if rest and len(rest) == len(rows):
            size = -(-len(rest) // PIECES)
            narrow += [tuple(rest[at : at + size]) for at in range(0, len(rest), size)]
        elif rest:
            wide.append(tuple(rest))
        seen |= rows
    return (*wide, *narrow)


def retry_decision(
    attempts: Sequence[Attempt], rows: int, max_attempts: int, jitter: float
) -> Decision:
    """Whether a chunk with these failed attempts is tried again; `jitter` is between 0 and 1.

    A crash that narrows the search is progress, and so is an attempt that committed a checkpoint.
    After `max_attempts` failures in a row without progress the chunk is parked. Errors wait 1, 2,
    4 … 60 seconds, at most halved by the jitter. Crashes do not wait, since they only need another
    worker.
    """
    known: set[frozenset[int]] = set()
    lone: dict[int, int] = {}
    stuck = reached = 0
    hopeless: Attempt | None = None
    for attempt in attempts:
        if attempt.cause == RETRY:
            stuck, hopeless = 0, None
            continue
        if not attempt.retryable:
            hopeless = attempt
        progress = attempt.advanced > reached or _narrows(attempt, rows, known, lone)
        reached = max(reached, attempt.advanced)
        stuck = 0 if progress else stuck + 1
    if hopeless is not None:
        return Decision(parked=hopeless.cause, message=hopeless.message)
    if stuck >= max_attempts:
        last = attempts[-1]
        return Decision(
            parked=last.cause, message=last.message or f"{stuck} attempts without progress"
        )
    if stuck == 0 or attempts[-1].cause in DEATHS:
        return Decision()
    return Decision(wait_s=min(60.0, 2.0 ** max(0, stuck - 1)) * (0.5 + 0.5 * jitter))


def _narrows(attempt: Attempt, rows: int, known: set[frozenset[int]], lone: dict[int, int]) -> bool:
    """Whether this crash showed something new; adds it to `known` and `lone`."""
    if attempt.cause not in DEATHS:
        return False
    new = False
    for found in _sets_of(attempt, rows):
        if len(found) == 1:
            row = next(iter(found))
            lone[row] = lone.get(row, 0) + 1
            new |= lone[row] <= CRASHES_OF_POISON
        else:
            new |= not any(found >= earlier for earlier in known)
        known.add(found)
    return new


_HANGS = {
    HANGING: "a mounted folder did not answer for",
    LOADING: "the model was not loaded within",
}
"""Stages in which a process ended itself because something did not return."""


def attempt_of_death(
    chunk: int, mark: Mark, now_s: float, seen_by: str, redis_at: float | None = None
) -> Attempt | None:
    """The record of an attempt that left only its mark; None if it had not started.

    `redis_at` is now by Redis's clock, which the mark's times are by; `now_s` by this host's.
    """
    if mark.stage == HELD:
        return None
    hangs = _HANGS.get(mark.stage)
    now_at = now_s if redis_at is None else redis_at
    overdue = mark.limit_s > 0 and now_at - mark.since_s >= mark.limit_s
    is_timeout = hangs is not None or (overdue and bool(mark.rows or mark.encoding))
    return Attempt(
        chunk=chunk,
        number=0,
        attempt=mark.attempt,
        cause="timeout" if is_timeout else "worker_lost",
        rows=mark.rows,
        encoding=mark.encoding,
        message="" if hangs is None else f"{hangs} {mark.limit_s:.0f} s",
        worker=mark.worker,
        stage=mark.stage,
        advanced=mark.advanced,
        at_s=now_s,
        seen_by=seen_by,
    )


def read_attempts(store: Store, chunk: int) -> list[Attempt]:
    """The records of a chunk, in the order they were made."""
    found = []
    for info in store.list(output_layout.attempts_of(chunk)):
        named = output_layout.chunk_and_number_of_attempt(info.name)
        data = store.read(info.name)
        if data is not None and named is not None:
            found.append(parse_attempt(data, *named))
    return sorted(found, key=lambda a: a.number)


def record_attempt(store: Store, attempt: Attempt) -> Attempt:
    """Write the record under the next free number; the same attempt is recorded once.

    Two processes that saw the same crash both call this; the second gets the record of the first.
    """
    records = read_attempts(store, attempt.chunk)
    while True:
        for known in records:
            if known.attempt == attempt.attempt:
                return known
        number = max((r.number for r in records), default=0) + 1
        numbered = attempt.model_copy(update={"number": number})
        name = output_layout.attempt(attempt.chunk, number)
        if store.create(name, json.dumps(numbered.model_dump(mode="json")).encode()):
            return numbered
        records = read_attempts(store, attempt.chunk)
