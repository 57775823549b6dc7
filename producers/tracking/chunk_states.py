"""The state of each chunk of a job, and which to send. Pure: no store, no Redis, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Chosen: longer than a worker needs from taking a message to leasing its chunks (milliseconds,
# seconds where it first reads the plan), far shorter than a lease.
GRACE_S = 2.0
READY = 1_024  # chosen: more than one window can take

NEW, SENT, DONE, PARKED = 0, 1, 2, 3
_NAMES = ("new", "sent", "done", "parked")


@dataclass(slots=True)
class ChunkStates:
    """New, sent, done or parked, for each chunk of a job. Not thread-safe."""

    size: int
    isolated: set[int] = field(default_factory=set)
    """Chunks with a crashed attempt: each is sent in a message of its own."""
    state: np.ndarray = field(init=False)
    """uint8 `[chunks]`: `NEW`, `SENT`, `DONE` or `PARKED`."""
    _missing_since: dict[int, float] = field(default_factory=dict)
    """Sent chunks that are neither queued nor leased; on the monotonic clock."""
    _not_before: dict[int, float] = field(default_factory=dict)
    """New chunks that wait after an error; on the monotonic clock."""
    _sent_at: dict[int, float] = field(default_factory=dict)
    """When each chunk was first sent; seconds since the epoch."""
    _first_new: int = 0
    """No chunk before this one is new."""

    def __post_init__(self) -> None:
        self.state = np.zeros(self.size, dtype=np.uint8)

    def reset(self, parts: Iterable[int], parked: Iterable[int]) -> None:
        """Start again from what the store holds; a part outranks a parked record."""
        self.state[:] = NEW
        self.state[self._known(parked)] = PARKED
        self.state[self._known(parts)] = DONE
        self._missing_since.clear()
        self._first_new = 0

    # -- what is known

    @property
    def counts(self) -> dict[str, int]:
        """Chunks by the name of their state."""
        sums = np.bincount(self.state, minlength=len(_NAMES)).tolist()
        return dict(zip(_NAMES, sums, strict=True))

    @property
    def is_settled(self) -> bool:
        """Nothing is left to be sent or waited for."""
        return bool(np.all(self.state >= DONE))

    def chunks(self, state: int) -> list[int]:
        """The chunks in this state, in order."""
        found: list[int] = np.flatnonzero(self.state == state).tolist()
        return found

    def has(self, chunk: int) -> bool:
        """Whether the plan has such a chunk."""
        return chunk < self.size

    def oldest_sent_at(self) -> float | None:
        """When the oldest chunk without a part was sent, since the epoch; None: none is out."""
        for chunk in [c for c in self._sent_at if self.state[c] >= DONE]:
            del self._sent_at[chunk]
        return min(self._sent_at.values(), default=None)

    # -- what happens to chunks

    def sent(self, chunks: Sequence[int], now_at: float) -> None:
        """These were published."""
        self.state[list(chunks)] = SENT
        for chunk in chunks:
            self._sent_at.setdefault(chunk, now_at)

    def taken_back(self, chunks: Iterable[int]) -> None:
        """These were published and then removed from the queue: they wait for their turn again."""
        sent = [c for c in self._known(chunks) if self.state[c] == SENT]
        self.state[sent] = NEW
        for chunk in sent:
            self._sent_at.pop(chunk, None)
        self._first_new = min([self._first_new, *sent])

    def leased(self, alive: Iterable[int]) -> None:
        """A leased chunk is in flight, even if an earlier controller published it."""
        for chunk in self._known(alive):
            if self.state[chunk] == NEW:
                self.state[chunk] = SENT

    def done(self, chunks: Iterable[int]) -> None:
        """These have a part."""
        for chunk in chunks:
            self.state[chunk] = DONE
            self._missing_since.pop(chunk, None)

    def crashed(self, chunk: int) -> None:
        """The attempt on it has crashed: there is no grace time to wait for."""
        self._missing_since[chunk] = float("-inf")

    def retry(self, chunk: int, not_before_monotonic: float) -> None:
        """Send it again, not before that moment."""
        self.state[chunk] = NEW
        self._not_before[chunk] = not_before_monotonic
        self._first_new = min(self._first_new, chunk)

    def parked(self, chunk: int) -> None:
        """Do not retry it automatically."""
        self.state[chunk] = PARKED

    # -- decisions

    def lost(
        self, sent: Iterable[int], on_their_way: Collection[int], now_monotonic: float
    ) -> list[int]:
        """Those of the sent chunks that have been neither queued nor leased for the grace time."""
        found = []
        for chunk in sent:
            if chunk in on_their_way:
                self._missing_since.pop(chunk, None)
                continue
            since = self._missing_since.setdefault(chunk, now_monotonic)
            if now_monotonic - since >= GRACE_S:
                del self._missing_since[chunk]
                found.append(chunk)
        return found

    def ready(self, now_monotonic: float) -> list[int]:
        """New chunks that need not wait, in order; no more than fit into a window."""
        tail = self.state[self._first_new :] == NEW
        new = np.flatnonzero(tail)[: READY + len(self._not_before)] + self._first_new
        if len(new):
            self._first_new = int(new[0])
        found = []
        for chunk in new.tolist():
            if self._not_before.get(chunk, 0.0) <= now_monotonic:
                self._not_before.pop(chunk, None)
                found.append(chunk)
        return found

    def compare(self, parts: Iterable[int]) -> tuple[list[int], list[int]]:
        """Apply a full listing; returns done chunks without a part, and other chunks that have one."""
        there = np.zeros(self.size, dtype=bool)
        there[self._known(parts)] = True
        gone: list[int] = np.flatnonzero((self.state == DONE) & ~there).tolist()
        found: list[int] = np.flatnonzero(there & (self.state != DONE)).tolist()
        self.state[gone] = NEW
        self.state[there] = DONE
        if gone:
            self._first_new = 0
        return gone, found

    def _known(self, chunks: Iterable[int]) -> list[int]:
        return [c for c in chunks if c < self.size]
