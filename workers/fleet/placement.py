"""Decides which slot of a host serves which queue. Pure: no clock, no processes, no I/O.

A queue is a model and a device class. So moving a worker to another queue means draining it,
starting it again and loading another model. There are only two reasons for it
(docs/about/decisions/0007-moving.md):

- The worker's own queue is empty, the worker has waited for as long as the move costs, and it would
  work in the new queue for at least `PAYS` times that long. Waiting first for as long as the move
  costs never costs more than twice the best choice with hindsight.
- A queue has work but no worker on this host, and another queue has two or more workers.

Otherwise a worker stops when the controller wants fewer in its queue, and an empty slot goes to the
least-served queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PAYS = 2.0  # chosen: a move may cost at most half of the time that the worker then works
PATIENCE_S = 600.0  # chosen: after this long a queue without workers gets one even for little work


@dataclass(frozen=True, slots=True)
class QueueDemand:
    """The demand of one queue on this host."""

    queue: str
    share: int
    """Workers that the controller wants on this host."""
    chunks: int | None = None
    """Chunks without a part, including current ones; None: enough for all."""
    work_s: float = 0.0
    """Worker-seconds of work left, on all hosts."""
    change_s: float = 0.0
    """Seconds from the request to leave another queue to the first row of this one."""
    unserved_s: float = 0.0
    """Seconds for which it has had work and no worker here."""
    least: int = 0
    """Workers that stay even without work; part of the share."""

    @property
    def useful_workers(self) -> int:
        """Workers wanted here that have something to do, or that stay without work."""
        found = self.share if self.chunks is None else min(self.share, self.chunks)
        return max(found, min(self.least, self.share))


@dataclass(frozen=True, slots=True)
class SlotState:
    """A usable slot and the worker in it."""

    slot: str
    queue: str | None
    """The queue that it should serve; None: no queue."""
    is_empty: bool = False
    """True if no process holds the device."""
    is_busy: bool = False
    idle_s: float = 0.0
    """Seconds for which a serving worker has had no work."""
    started_monotonic: float = 0.0

    @property
    def eviction_order(self) -> tuple[int, float]:
        """Stopping order: not started, then idle, then busy; newest first."""
        return (0 if self.is_empty else 1 + self.is_busy, -self.started_monotonic)


def assign_slots(places: Sequence[SlotState], asks: Sequence[QueueDemand]) -> dict[str, str | None]:
    """The queue that each slot should serve now. Idempotent: its result is left unchanged.

    Demands come first by weight; one call moves at most one worker.
    """
    plan = _Plan(places, asks)
    plan.drop_surplus()
    plan.fill()
    if None not in plan.queue_of.values():
        plan.move()
    return plan.queue_of


class _Plan:
    """The slots during assignment."""

    def __init__(self, places: Sequence[SlotState], asks: Sequence[QueueDemand]) -> None:
        known = {a.queue for a in asks}
        self._places = places
        self._asks = asks
        self.queue_of = {p.slot: p.queue if p.queue in known else None for p in places}

    def _count(self, queue: str) -> int:
        return sum(q == queue for q in self.queue_of.values())

    def _in(self, queue: str) -> list[SlotState]:
        """The slots that serve a queue, in stopping order."""
        return sorted((p for p in self._places if self.queue_of[p.slot] == queue), key=_ease)

    def _satisfaction(self, ask: QueueDemand) -> float:
        """The share of its demand that a queue has; 1 or more: it lacks no worker."""
        return self._count(ask.queue) / ask.useful_workers if ask.useful_workers else 1.0

    def drop_surplus(self) -> None:
        for ask in self._asks:
            extra = self._count(ask.queue) - ask.share
            for p in self._in(ask.queue)[: max(0, extra)]:
                self.queue_of[p.slot] = None

    def fill(self) -> None:
        """Assign free slots to the least-served queue, empty slots first."""
        free = [p for p in self._places if self.queue_of[p.slot] is None]
        for p in sorted(free, key=lambda p: (not p.is_empty, p.slot)):
            poor = min(self._asks, key=self._satisfaction, default=None)
            if poor is None or self._satisfaction(poor) >= 1.0:
                return
            self.queue_of[p.slot] = poor.queue

    def move(self) -> None:
        for ask in sorted(self._asks, key=self._satisfaction):
            count = self._count(ask.queue)
            if count < ask.useful_workers:
                givers = self._idle(ask) if self._pays(ask, count) else ()
                mover = next(iter(givers), None) or self._for_nobodys(ask)
                if mover is not None:
                    self.queue_of[mover.slot] = ask.queue
                    return

    def _idle(self, ask: QueueDemand) -> Iterator[SlotState]:
        """Move workers that have waited long enough, from queues with more workers than chunks."""
        for other in self._asks:
            if other.queue != ask.queue and self._count(other.queue) > other.useful_workers:
                for p in self._in(other.queue):
                    if not p.is_busy and p.idle_s >= ask.change_s:
                        yield p

    def _for_nobodys(self, ask: QueueDemand) -> SlotState | None:
        """Move a worker to a queue with work and none here, from the queue with the most (two or more)."""
        worth = self._pays(ask, 0) or ask.unserved_s >= PATIENCE_S
        if self._count(ask.queue) or not worth:
            return None
        most = max(self._asks, key=lambda a: self._count(a.queue))
        there = self._in(most.queue)
        return there[0] if len(there) > 1 else None

    def _pays(self, ask: QueueDemand, workers: int) -> bool:
        """Whether one more worker would have enough work after the move."""
        return ask.work_s / (workers + 1) >= PAYS * ask.change_s


def _ease(state: SlotState) -> tuple[int, float]:
    return state.eviction_order
