"""A loaded task with the budget of its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings, SupportsRowChecks, SupportsRowCosts, Task
from workers.batching.packing import Budget
from workers.pipeline.finite import rows_not_finite


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

    def not_finite(self, batch: Encodings, output: Any, values: pa.RecordBatch) -> np.ndarray:
        """True for each row that has no answer, bool `[rows]`; `values` are its decoded columns."""
        if isinstance(self.task, SupportsRowChecks):
            return self.task.not_finite(batch, output)
        return rows_not_finite(values)

    def is_lost(self, error: BaseException) -> bool:
        """True when nothing more can be computed in this process."""
        told = getattr(self.task, "is_device_lost", None)
        return bool(told is not None and told(error))
