"""Which slot of a host serves which queue. Pure: the answers, the clock and the processes stand outside.

A queue is a model and a device class, so to give a worker another queue is to drain it, start it
anew and load another model. It is done for two reasons only (docs/about/decisions/0007-moving.md):

- the worker's own queue is dry, it has waited for as long as the change costs, and it would then
  work there for at least `PAYS` times as long as it changed. Who waits first for what a change
  costs never pays more than twice what the best choice with hindsight would have paid.
- a queue has work and nobody at all on this host, and another has two or more.

Else a worker leaves when the controller wants fewer in its queue, and an empty slot goes to the
queue that lacks most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PAYS = 2.0  # chosen: half of the time spent on a move may be the move itself, and no more
PATIENCE_S = 600.0  # chosen: after this long a queue without anybody gets a worker for a trifle too


@dataclass(frozen=True, slots=True)
class QueueDemand:
    """What one queue wants of this host."""

    queue: str
    share: int
    """Workers that the controller wants here."""
    chunks: int | None = None
    """Chunks without a part, those in hand included; None: enough for all."""
    work_s: float = 0.0
    """Worker-seconds that are left, on all hosts."""
    change_s: float = 0.0
    """From the word to leave another queue to the first row of this one."""
    unserved_s: float = 0.0
    """How long there has been work and nobody here."""
    least: int = 0
    """Workers that stay without work; part of the share."""

    @property
    def hands(self) -> int:
        """Workers that are wanted here and find something to do, or stay without."""
        found = self.share if self.chunks is None else min(self.share, self.chunks)
        return max(found, min(self.least, self.share))


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot that can be used, and who is in it."""

    slot: str
    queue: str | None
    """Which queue it is to serve; None: none."""
    is_empty: bool = False
    """No process holds the device."""
    is_busy: bool = False
    idle_s: float = 0.0
    """How long a worker that serves has had nothing in hand."""
    started_monotonic: float = 0.0

    @property
    def ease(self) -> tuple[int, float]:
        """Who goes first: not started, then idle, then busy; among equals the youngest."""
        return (0 if self.is_empty else 1 + self.is_busy, -self.started_monotonic)


def assign_slots(places: Sequence[SlotState], asks: Sequence[QueueDemand]) -> dict[str, str | None]:
    """The queue of each slot, as it should be now. Applied to its own answer it changes nothing.

    Asks in the order of their weight among equals; at most one worker is moved by one call.
    """
    plan = _Plan(places, asks)
    plan.let_go()
    plan.fill()
    if None not in plan.queue_of.values():
        plan.move()
    return plan.queue_of


class _Plan:
    """The places while they are being given out."""

    def __init__(self, places: Sequence[SlotState], asks: Sequence[QueueDemand]) -> None:
        known = {a.queue for a in asks}
        self._places = places
        self._asks = asks
        self.queue_of = {p.slot: p.queue if p.queue in known else None for p in places}

    def _count(self, queue: str) -> int:
        return sum(q == queue for q in self.queue_of.values())

    def _in(self, queue: str) -> list[SlotState]:
        """Who serves a queue, the easiest to send away first."""
        return sorted((p for p in self._places if self.queue_of[p.slot] == queue), key=_ease)

    def _fed(self, ask: QueueDemand) -> float:
        """How much of what a queue wants it has; 1 and more: it lacks nobody."""
        return self._count(ask.queue) / ask.hands if ask.hands else 1.0

    def let_go(self) -> None:
        for ask in self._asks:
            extra = self._count(ask.queue) - ask.share
            for p in self._in(ask.queue)[: max(0, extra)]:
                self.queue_of[p.slot] = None

    def fill(self) -> None:
        """Slots that nobody is to use go to who lacks most: those without a process first."""
        free = [p for p in self._places if self.queue_of[p.slot] is None]
        for p in sorted(free, key=lambda p: (not p.is_empty, p.slot)):
            poor = min(self._asks, key=self._fed, default=None)
            if poor is None or self._fed(poor) >= 1.0:
                return
            self.queue_of[p.slot] = poor.queue

    def move(self) -> None:
        for ask in sorted(self._asks, key=self._fed):
            count = self._count(ask.queue)
            if count < ask.hands:
                givers = self._idle(ask) if self._pays(ask, count) else ()
                mover = next(iter(givers), None) or self._for_nobodys(ask)
                if mover is not None:
                    self.queue_of[mover.slot] = ask.queue
                    return

    def _idle(self, ask: QueueDemand) -> Iterator[SlotState]:
        """Workers that have waited long enough, of queues with more of them than chunks."""
        for other in self._asks:
            if other.queue != ask.queue and self._count(other.queue) > other.hands:
                for p in self._in(other.queue):
                    if not p.is_busy and p.idle_s >= ask.change_s:
                        yield p

    def _for_nobodys(self, ask: QueueDemand) -> SlotState | None:
        """Somebody for a queue with work and nobody here, from whoever has most of several."""
        worth = self._pays(ask, 0) or ask.unserved_s >= PATIENCE_S
        if self._count(ask.queue) or not worth:
            return None
        most = max(self._asks, key=lambda a: self._count(a.queue))
        there = self._in(most.queue)
        return there[0] if len(there) > 1 else None

    def _pays(self, ask: QueueDemand, workers: int) -> bool:
        """Whether one worker more finds enough to do, once it is there."""
        return ask.work_s / (workers + 1) >= PAYS * ask.change_s


def _ease(state: SlotState) -> tuple[int, float]:
    return state.ease
