"""The speed of a job as its workers show it."""

from __future__ import annotations

from dataclasses import dataclass

HALF_LIFE_S = 300.0  # chosen: how fast a measured speed forgets; ten chunks


MEASURED_S = 10.0  # chosen: worker-seconds before a speed counts as measured


@dataclass(slots=True)
class Speed:
    """Tokens per second of one worker, forgetting the past at a steady pace."""

    tokens: float = 0.0
    worker_s: float = 0.0

    def add(self, tokens: float, worker_s: float, elapsed_s: float) -> None:
        kept = 0.5 ** (elapsed_s / HALF_LIFE_S)
        self.tokens = self.tokens * kept + tokens
        self.worker_s = self.worker_s * kept + worker_s

    @property
    def tokens_per_s(self) -> float | None:
        if self.worker_s < MEASURED_S or self.tokens <= 0:
            return None
        return self.tokens / self.worker_s
