"""A loaded task together with the token budget of its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    Encodings,
    SupportsFanOut,
    SupportsGeneration,
    SupportsInFlight,
    SupportsRowChecks,
    SupportsRowCosts,
    SupportsTokenizerName,
    Task,
)
from headrace.tasks.finite import rows_not_finite
from workers.batching.packing import Budget


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
    """Batches started before the output of the first is collected; 1: none ahead. A task that
    knows better (`SupportsInFlight`) decides."""

    warnings: tuple[str, ...] = ()
    """Sentences about the model that the person should read."""

    fan_out: SupportsFanOut | None = field(init=False, repr=False)
    """The task, if its rows become items."""
    generates: bool = field(init=False, repr=False)
    """The task's engine batches the rows of a window itself, see `workers.pipeline.generating`."""
    _row_costs: SupportsRowCosts | None = field(init=False, repr=False)
    _row_checks: SupportsRowChecks | None = field(init=False, repr=False)
    _tokenizer_name: SupportsTokenizerName | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # asked once: Python 3.11 takes 10 microseconds for each question to a protocol
        task = self.task
        if isinstance(task, SupportsInFlight):
            self.in_flight = task.in_flight
        self.fan_out = task if isinstance(task, SupportsFanOut) else None
        self.generates = isinstance(task, SupportsGeneration)
        self._row_costs = task if isinstance(task, SupportsRowCosts) else None
        self._row_checks = task if isinstance(task, SupportsRowChecks) else None
        self._tokenizer_name = task if isinstance(task, SupportsTokenizerName) else None

    @property
    def tokenizer_library(self) -> str:
        """Name and version of a tokenizer library that is not the usual one; else empty."""
        return "" if self._tokenizer_name is None else self._tokenizer_name.tokenizer_library

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of the budget per row, int64 `[rows]`."""
        return rows.lengths if self._row_costs is None else self._row_costs.costs(rows)

    def decoded(self) -> pa.Schema:
        """The columns that `decode` gives: of rows, or of the items that rows became."""
        if self.fan_out is not None:
            return pa.schema(self.fan_out.item_columns())
        return pa.schema(self.task.columns())

    def not_finite(self, batch: Encodings, output: Any, values: pa.RecordBatch) -> np.ndarray:
        """True for each row with NaN or infinity, bool `[rows]`; `values` are the decoded columns."""
        if self._row_checks is not None:
            return self._row_checks.not_finite(batch, output)
        return rows_not_finite(values)

    def is_lost(self, error: BaseException) -> bool:
        """True when this process can compute nothing more on its device."""
        told = getattr(self.task, "is_device_lost", None)
        return bool(told is not None and told(error))
