"""A loaded task with the budget of its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.tasks.contract import Encodings, SupportsRowCosts, Task
from workers.batching.packing import Budget


@dataclass(slots=True)
class LoadedTask:
    """A loaded task and what its device has taught about batch sizes."""

    task: Task
    budget: Budget
    padded: bool
    device: str = "cpu"
    on_halved: Callable[[Budget], None] = lambda budget: None
    """Told when out-of-memory has taught something, so that the next start begins with it."""
    in_flight: int = 1
    """Batches handed to the device before the answers of the first are asked for; 1: none ahead."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of the budget that each row takes, int64 `[rows]`."""
        return self.task.costs(rows) if isinstance(self.task, SupportsRowCosts) else rows.lengths

    def is_lost(self, error: BaseException) -> bool:
        """True when nothing more can be computed in this process."""
        told = getattr(self.task, "is_device_lost", None)
        return bool(told is not None and told(error))
