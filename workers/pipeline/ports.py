"""The interfaces of a chunk's pipeline: source, sink, control and profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import pyarrow as pa

from workers.pipeline.rows import (
    TokenizedWindow,
    Window,
)


class Control(Protocol):
    """What the pipeline checks and reports between batches."""

    def check(self) -> None:
        """Raise Stopped or LeaseLost when the work should end here."""

    def forwarding(self, rows: Sequence[int]) -> None:
        """Report that these rows of the chunk go to the model now."""

    def encoding(self, start: int, stop: int) -> None:
        """Report that these rows of the chunk go to the tokenizer now; `(0, 0)`: none."""


Source = Callable[[], Iterable[Window]]
"""Reads the chunk's windows; may be called more than once."""


class Sink(Protocol):
    """Takes the rows of a part, in order; the caller commits or discards it afterwards."""

    def write(self, rows: pa.RecordBatch) -> None: ...


class Profile(Protocol):
    """Counts the rows of a chunk; raises nothing, whatever the rows are."""

    def add(self, window: TokenizedWindow, rows: pa.RecordBatch) -> None: ...
