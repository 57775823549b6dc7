"""When a worker stops: its drain, and the limits that it works under."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

# Chosen: a SIGTERM to a process group comes twice, from the sender and from our own parent.
ONE_WORD_S = 0.5


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How long things may take on this worker, in seconds."""

    lease_s: float
    batch_timeout_s: float
    grace_s: float


@dataclass(slots=True)
class Drain:
    """The process-wide word that this worker is to go."""

    asked: threading.Event = field(default_factory=threading.Event)
    deadline_at: float = 0.0
    _first_at: float = 0.0

    def ask(self, grace_s: float) -> None:
        """Go within the grace time; asked again, a moment later, go now."""
        now = time.time()
        if not self.asked.is_set():
            self.deadline_at, self._first_at = now + grace_s, now
            self.asked.set()
        elif now - self._first_at > ONE_WORD_S:
            self.deadline_at = now
