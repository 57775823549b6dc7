"""The drain of a worker that stops, and its time limits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

# Chosen: a SIGTERM to a process group comes twice, from the sender and from our own parent.
ONE_WORD_S = 0.5
MOST_BRAKE_S = 5.0  # chosen: a store that is back is used within seconds


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long things may take on this worker, in seconds."""

    lease_s: float
    batch_timeout_s: float
    grace_s: float
    load_timeout_s: float = 3600


@dataclass(slots=True)
class Drain:
    """The process-wide request that this worker stop."""

    asked: threading.Event = field(default_factory=threading.Event)
    deadline_at: float = 0.0
    _first_at: float = 0.0

    def ask(self, grace_s: float) -> None:
        """Stop within the grace time; a second request after a moment stops now."""
        now = time.time()
        if not self.asked.is_set():
            self.deadline_at, self._first_at = now + grace_s, now
            self.asked.set()
        elif now - self._first_at > ONE_WORD_S:
            self.deadline_at = now


@dataclass(slots=True)
class Brake:
    """Slows a worker down whose chunks fail one after the other, so that others take them."""

    drain: Drain
    store_is_away: bool = False
    """A store failed since the current message started: its other chunks would only meet it too."""
    _failures: int = 0

    def begin(self) -> None:
        """A message begins: a store that was away may be back."""
        self.store_is_away = False

    def failed(self, *, store_is_away: bool = False) -> None:
        """A chunk failed here, perhaps for a store that waiting may help."""
        self._failures += 1
        self.store_is_away |= store_is_away

    def succeeded(self) -> None:
        """A chunk was committed here."""
        self._failures, self.store_is_away = 0, False

    def wait_s(self) -> float:
        """Seconds that this worker waits before its next message: 0, 0.25, 0.5, 1 … 5."""
        return min(MOST_BRAKE_S, 0.125 * 2.0 ** min(self._failures, 10)) if self._failures else 0.0

    def wait(self) -> None:
        """Wait that long, or until a drain is requested."""
        self.drain.asked.wait(self.wait_s())
