"""What the pipeline of a chunk is given: where rows come from, where they go, who watches, what stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import pyarrow as pa

from workers.pipeline.rows import (
    Window,
)


class Observe(Protocol):
    """Times a stage: `with observe("forward", rows=…, tokens=…): …`."""

    def __call__(self, stage: str, **counters: float) -> Any: ...


class Control(Protocol):
    """What the pipeline asks and tells between batches."""

    def check(self) -> None:
        """Raises Stopped or LeaseLost when the work should end here."""

    def forwarding(self, rows: Sequence[int]) -> None:
        """These rows of the chunk go to the model now."""

    def encoding(self, start: int, stop: int) -> None:
        """These rows of the chunk go to the tokenizer now; `(0, 0)`: none."""


Source = Callable[[], Iterable[Window]]
"""Reads the chunk's windows; may be called more than once."""


class Sink(Protocol):
    """Takes the rows of a part, in order; whoever calls it commits or discards afterwards."""

    def schema(self, carried: pa.Schema, task: list[pa.Field]) -> pa.Schema: ...
    def write(self, rows: pa.RecordBatch) -> None: ...
