"""What goes to the queue next: a bounded window, by priority and fair share. Pure.

The window is small, so that a small urgent job need not wait behind a night's corpus, and so that
the controller can read what really stands in the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas.message import MAX_RUN

# Chosen: enough messages that no worker waits a tick, see docs/decisions/0002-delivery.md.
MESSAGES_A_WORKER = 4
MIN_MESSAGES = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """What one job could send now."""

    job: str
    priority: int
    ready: tuple[int, ...]
    """Chunk numbers, in order; as many as a window could take are enough."""
    in_flight: int
    """Chunks of the job that are queued or leased."""
    remaining: int
    """Chunks that have no part yet, those in flight included."""
    alone: frozenset[int] = frozenset()
    """Chunks that died before: each in a message of its own, so that no neighbour dies with it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One message: neighbouring chunks of one job."""

    job: str
    chunks: tuple[int, ...]


def window_size(workers: int) -> int:
    """How many messages may stand in a queue."""
    return max(MIN_MESSAGES, MESSAGES_A_WORKER * workers)


def run_length(unsent: int, workers: int) -> int:
    """Chunks a message: long enough to overlap, short enough that the end is shared by all.

    One to eight: a fourth of each worker's share of what is not sent yet, so that runs grow shorter
    towards the end and no worker is left with a long one (guided self-scheduling, Polychronopoulos
    and Kuck 1987).
    """
    return max(1, min(MAX_RUN, unsent // (4 * max(1, workers))))


def to_be_passed(claims: Sequence[Claim]) -> frozenset[str]:
    """Jobs whose waiting messages make room: for a higher priority, or an equal that has none yet.

    What stands in the queue is a bounded number of messages, but each is up to eight chunks of
    half a minute: an urgent job must not wait for them.
    """
    comers = [c for c in claims if c.ready]
    return frozenset(
        old.job
        for old in claims
        for new in comers
        if new.priority > old.priority
        or (new.priority == old.priority and new.job != old.job and not new.in_flight)
    )


def choose(claims: Sequence[Claim], messages: int, workers: int) -> list[Run]:
    """At most that many messages, highest priority first; equals take turns, fewest in flight first."""
    ready = {c.job: list(c.ready) for c in claims}
    flying = {c.job: c.in_flight for c in claims}
    unsent = {c.job: c.remaining - c.in_flight for c in claims}
    runs: list[Run] = []
    while len(runs) < messages:
        able = [c for c in claims if ready[c.job]]
        if not able:
            break
        top = max(c.priority for c in able)
        turn = min((c for c in able if c.priority == top), key=lambda c: (flying[c.job], c.job))
        run = _neighbours(ready[turn.job], run_length(unsent[turn.job], workers), turn.alone)
        del ready[turn.job][: len(run)]
        unsent[turn.job] -= len(run)
        flying[turn.job] += len(run)
        runs.append(Run(turn.job, run))
    return runs


def _neighbours(ready: Sequence[int], most: int, alone: AbstractSet[int]) -> tuple[int, ...]:
    """The longest run of consecutive numbers from the start, at most that many."""
    end = 1
    if ready[0] not in alone:
        while end < min(most, len(ready)) and _joins(ready, end, alone):
            end += 1
    return tuple(ready[:end])


def _joins(ready: Sequence[int], at: int, alone: AbstractSet[int]) -> bool:
    return ready[at] == ready[at - 1] + 1 and ready[at] not in alone
