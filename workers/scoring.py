"""From token ids to predictions: batches under a budget, halved when the device is full.

A batch that fails for another reason is halved too, down to the one row that cannot be scored:
that row is an error, its neighbours are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from schemas.errors import HeadraceError, LeaseLost, OutOfMemory, Stopped, error_type_of
from workers.engine.packing import Budget, halves, pack
from workers.rows import ChunkStats, RowFault
from workers.tasks.base import Encodings, Task


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


@dataclass(slots=True)
class Engine:
    """A loaded task and what its device has taught about batch sizes."""

    task: Task
    budget: Budget
    padded: bool
    device: str = "cpu"
    on_halved: Callable[[Budget], None] = lambda budget: None
    """Told when out-of-memory has taught something, so that the next start begins with it."""


@dataclass(slots=True)
class Predictions:
    """Rows of the encodings, in their order: a value each, or a fault."""

    values: pa.RecordBatch
    computed: np.ndarray
    faults: dict[int, RowFault] = field(default_factory=dict)


def score(
    encodings: Encodings | None,
    rows: np.ndarray,
    engine: Engine,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> Predictions:
    """Predictions for all encodings; `rows` are their row numbers in the chunk.

    Raises:
        Stopped, LeaseLost: as `control.check` says; nothing of this call is kept.
    """
    schema = pa.schema(engine.task.columns())
    if encodings is None or len(encodings) == 0:
        return Predictions(_none(schema), np.zeros(0, dtype=bool))
    pieces: list[pa.RecordBatch] = []
    order: list[np.ndarray] = []
    faults: dict[int, RowFault] = {}
    todo = pack(encodings.lengths, engine.budget.tokens, padded=engine.padded)[::-1]
    while todo:
        batch = todo.pop()
        control.check()
        tokens = _cost(encodings.lengths[batch], engine.padded)
        if tokens > engine.budget.tokens and len(batch) > 1:
            todo += halves(batch)[::-1]
            continue
        control.forwarding(rows[batch].tolist())
        try:
            values = _compute(encodings.take(batch), tokens, engine, observe)
        except (Stopped, LeaseLost):
            raise
        except Exception as error:
            todo += _smaller(batch, tokens, error, engine, faults, stats)[::-1]
            continue
        pieces.append(values)
        order.append(batch)
        stats.batches += 1
        stats.budget_tokens += engine.budget.tokens
        stats.computed += len(batch)
        real = int(encodings.lengths[batch].sum())
        stats.tokens += real
        stats.padding_tokens += tokens - real
    return _in_order(pieces, order, len(encodings), schema, faults)


def _none(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)


def _cost(lengths: np.ndarray, padded: bool) -> int:
    return int(len(lengths) * lengths.max()) if padded else int(lengths.sum())


def _compute(batch: Encodings, cost: int, engine: Engine, observe: Observe) -> pa.RecordBatch:
    tokens = int(batch.offsets[-1])
    padding = cost - tokens
    with observe("forward", rows=len(batch), tokens=tokens, padding_tokens=padding, batches=1):
        output = engine.task.forward(batch)
    with observe("decode", rows=len(batch)):
        return engine.task.decode(batch, output)


def _smaller(
    batch: np.ndarray,
    tokens: int,
    error: Exception,
    engine: Engine,
    faults: dict[int, RowFault],
    stats: ChunkStats,
) -> list[np.ndarray]:
    """What is left to try of a batch that failed: its halves, or nothing for a single row."""
    full = engine.task.is_out_of_memory(error)
    if full:
        stats.oom_halvings += 1
    if len(batch) > 1:
        if full:
            engine.budget = engine.budget.after_out_of_memory(tokens)
            engine.on_halved(engine.budget)
        return halves(batch)
    if full:
        error = OutOfMemory(f"the device has no memory for this one row of {tokens} tokens")
    faults[int(batch[0])] = RowFault(error_type_of(error), _message(error))
    return []


def _message(error: Exception) -> str:
    return (
        str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"[:500]
    )


def _in_order(
    pieces: list[pa.RecordBatch],
    order: list[np.ndarray],
    rows: int,
    schema: pa.Schema,
    faults: dict[int, RowFault],
) -> Predictions:
    """Batches put back into the order of the encodings; a fault leaves nulls."""
    computed = np.zeros(rows, dtype=bool)
    where = np.zeros(rows, dtype=np.int64)
    if order:
        placed = np.concatenate(order)
        computed[placed] = True
        where[placed] = np.arange(len(placed))
    if not pieces:
        values = pa.RecordBatch.from_arrays([pa.nulls(rows, f.type) for f in schema], schema=schema)
        return Predictions(values, computed, faults)
    table = pa.Table.from_batches(pieces, schema=schema).unify_dictionaries().combine_chunks()
    index = pa.array(where, mask=~computed)
    return Predictions(_one_batch(table.take(index)), computed, faults)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    columns = [c.chunk(0) if c.num_chunks == 1 else c.combine_chunks() for c in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
