"""A loaded task together with the token budget of its batches."""

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
    """A loaded task and the batch sizes that its device was found to hold."""

    task: Task
    budget: Budget
    padded: bool
    device: str = "cpu"
    on_halved: Callable[[Budget], None] = lambda budget: None
    """Called when out-of-memory lowered the budget, so that the next start begins with it."""
    in_flight: int = 1
    """Batches started before the output of the first is collected; 1: none ahead."""

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of the budget per row, int64 `[rows]`."""
        return self.task.costs(rows) if isinstance(self.task, SupportsRowCosts) else rows.lengths

    def not_finite(self, batch: Encodings, output: Any, values: pa.RecordBatch) -> np.ndarray:
        """True for each row with NaN or infinity, bool `[rows]`; `values` are the decoded columns."""
        if isinstance(self.task, SupportsRowChecks):
            return self.task.not_finite(batch, output)
        return rows_not_finite(values)

    def is_lost(self, error: BaseException) -> bool:
        """True when this process can compute nothing more on its device."""
        told = getattr(self.task, "is_device_lost", None)
        return bool(told is not None and told(error))
