"""Computes predictions from token ids: batches under a budget, halved when memory runs out.

A batch that fails for another reason is halved too, down to the single row that fails. That row
becomes an error; its neighbours do not.

If the task can start a batch without waiting for it (`SupportsAsyncForward`), the next batch is
started before the previous output is fetched. So the device has work while that output is decoded
and while the rows in progress are written to Redis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    Encodings,
    SupportsAsyncForward,
)
from headrace.tracing.chunk_trace import Observe
from schemas.errors import (
    DeviceLost,
    HeadraceError,
    LeaseLost,
    OutOfMemory,
    OutputMismatch,
    Stopped,
    error_type_of,
)
from workers.batching.packing import (
    Budget,
    halves,
    pack,
)
from workers.pipeline.join import join_items
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control
from workers.pipeline.rows import NOT_FINITE, ChunkStats, Predictions, RowError

T = TypeVar("T")
WindowInput = tuple[T, Encodings | None, np.ndarray]
"""A window, its encodings, and the numbers of their rows in the chunk."""


def score(
    encodings: Encodings | None,
    rows: np.ndarray,
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> Predictions:
    """Predictions for all encodings of one window, see `score_windows`."""
    one: list[WindowInput[None]] = [(None, encodings, rows)]
    ((_, found),) = score_windows(one, engine, control, observe, stats)
    return found


def score_windows(
    windows: Iterable[WindowInput[T]],
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
    is_ready: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[T, Predictions]]:
    """Predictions of each window, in order. The next window starts while the last batch of the
    previous one is still on the device, if `is_ready` says that it is available without waiting.

    Raises:
        Stopped, LeaseLost: from `control.check`; results not yet yielded are dropped.
        DeviceLost: the device accepts no more work from this process.
    """
    batches = _Batches(iter(windows), engine, control, observe, stats, is_ready)
    return batches.run()


@dataclass(slots=True)
class _OpenWindow(Generic[T]):
    """A window whose batches are being computed."""

    what: T
    encodings: Encodings | None
    numbers: np.ndarray
    """Numbers of the rows in the chunk."""
    costs: np.ndarray
    """Tokens of the budget that each row takes."""
    todo: list[np.ndarray]
    """Batches not started, the next one last, as rows of the encodings."""
    away: int = 0
    """Batches started whose results are not collected yet."""
    pieces: list[pa.RecordBatch] = field(default_factory=list)
    order: list[np.ndarray] = field(default_factory=list)
    faults: dict[int, RowError] = field(default_factory=dict)

    @classmethod
    def of(
        cls, what: T, encodings: Encodings | None, numbers: np.ndarray, engine: LoadedTask
    ) -> _OpenWindow[T]:
        costs = np.zeros(0, dtype=np.int64) if encodings is None else engine.costs(encodings)
        todo = pack(costs, engine.budget.tokens, padded=engine.padded)[::-1]
        return cls(what, encodings, numbers, costs, todo)

    def is_done(self) -> bool:
        return not self.todo and not self.away

    def next_cost(self, engine: LoadedTask) -> int:
        """Tokens of the budget that the next batch takes."""
        return _cost(self.costs[self.todo[-1]], engine.padded)

    def next_flight(self, engine: LoadedTask, control: Control) -> _InFlightBatch | None:
        """The next batch; None if it was split in two instead, because the budget has shrunk."""
        assert self.encodings is not None
        rows = self.todo.pop()
        control.check()
        cost = _cost(self.costs[rows], engine.padded)
        if cost > engine.budget.tokens and len(rows) > 1:
            self.todo += halves(rows)[::-1]
            return None
        self.away += 1
        fan = self.encodings.fan
        of = rows if fan is None else fan.rows_with(rows, len(self.encodings))
        batch = self.encodings.take(rows)
        padding = _cost(batch.lengths, engine.padded) - int(batch.offsets[-1])
        return _InFlightBatch(self, rows, self.numbers[of], batch, cost, padding)

    def predictions(self, schema: pa.Schema, engine: LoadedTask, stats: ChunkStats) -> Predictions:
        """Of its rows; `schema` is what `decode` gives."""
        if self.encodings is None:
            return Predictions(_none(pa.schema(engine.task.columns())), np.zeros(0, dtype=bool))
        found = _in_order(self.pieces, self.order, len(self.encodings), schema, self.faults)
        if self.encodings.fan is None:
            return found
        joined = join_items(found, self.encodings.fan, engine.task)
        stats.computed += int(joined.computed.sum())
        return joined


@dataclass(slots=True)
class _InFlightBatch:
    """A batch on the device: first launched, then collected."""

    window: _OpenWindow[Any]
    rows: np.ndarray
    """Which rows of the window's encodings, int64 `[rows]`."""
    numbers: np.ndarray
    """Their numbers in the chunk."""
    batch: Encodings
    cost: int
    """Tokens of the budget that it takes."""
    padding: int
    """Tokens that the device computes beside those of its rows."""
    next: _InFlightBatch | None = None
    """The batch launched after this one; the device starts it when this one is done."""
    _wait: Callable[[], Any] | None = None
    _call: Any = None
    """The stage's timer: from when the device starts this batch until its result is back."""

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int(self.batch.offsets[-1])

    def begin(self, observe: Observe) -> None:
        """Start the timer: as far as the host can tell, the device now computes this batch."""
        self._call = observe(
            "forward",
            rows=len(self.batch),
            tokens=self.tokens,
            padding_tokens=self.padding,
            batches=1,
        )
        self._call.__enter__()

    def _end(self, observe: Observe, error: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.__exit__(type(error) if error else None, error, None)
        following, self.next = self.next, None
        if following is not None:
            following.begin(observe)

    def attempt(
        self,
        step: Callable[[LoadedTask, Observe], pa.RecordBatch | None],
        engine: LoadedTask,
        observe: Observe,
        stats: ChunkStats,
    ) -> bool:
        """Launch or collect it; False if it failed and its halves must be tried."""
        window = self.window
        try:
            values = step(engine, observe)
        except (Stopped, LeaseLost):
            raise
        except Exception as error:
            self._end(observe, error)
            if engine.is_lost(error):
                raise DeviceLost(_message(error)) from error
            left = _smaller(self.rows, self.cost, error, engine, window.faults, stats)
            window.todo += left[::-1]
            window.away -= 1
            return False
        if values is not None:
            window.pieces.append(values)
            window.order.append(self.rows)
            window.away -= 1
            self.count(stats, engine.budget)
        return True

    def launch(self, engine: LoadedTask, observe: Observe) -> None:
        """Start it on the device; a task without asynchronous forward computes it on collect."""
        if engine.in_flight > 1 and isinstance(engine.task, SupportsAsyncForward):
            self._wait = engine.task.launch(self.batch)

    def collect(self, engine: LoadedTask, observe: Observe) -> pa.RecordBatch:
        """Its predictions."""
        output = self._wait() if self._wait else engine.task.forward(self.batch)
        self._end(observe)
        with observe("decode", rows=len(self.batch)):
            values = engine.task.decode(self.batch, output)
            if values is None or values.num_rows != len(self.batch):
                found = "no" if values is None else values.num_rows
                raise OutputMismatch(f"decode gave {found} rows for {len(self.batch)}")
            bad = engine.not_finite(self.batch, output, values)
        self.window.faults.update(dict.fromkeys(self.rows[bad].tolist(), NOT_FINITE))
        return values

    def count(self, stats: ChunkStats, budget: Budget) -> None:
        stats.batches += 1
        stats.budget_tokens += budget.tokens
        if self.window.encodings is None or self.window.encodings.fan is None:
            stats.computed += len(self.batch)  # rows of items count when they are joined
        stats.tokens += self.tokens
        stats.padding_tokens += self.padding


@dataclass(slots=True)
class _Batches(Generic[T]):
    """Chooses the next step: start a batch, read one more window, or collect the oldest batch."""

    source: Iterator[WindowInput[T]]
    engine: LoadedTask
    control: Control
    observe: Observe
    stats: ChunkStats
    is_ready: Callable[[], bool]
    open: deque[_OpenWindow[T]] = field(default_factory=deque)
    """Windows read and not yielded yet, in order."""
    flying: deque[_InFlightBatch] = field(default_factory=deque)
    more: bool = True
    """Whether the source may have another window."""

    def run(self) -> Iterator[tuple[T, Predictions]]:
        schema = self.engine.decoded()
        while self.more or self.open:
            while self.open and self.open[0].is_done():
                window = self.open.popleft()
                yield window.what, window.predictions(schema, self.engine, self.stats)
            self._step()

    def _step(self) -> None:
        window = next((window for window in self.open if window.todo), None)
        if window is not None and self._may_launch(window):
            self._launch(window)
        elif self.more and self._may_read():
            self._read()
        elif self.flying:
            self._collect()

    def _may_launch(self, window: _OpenWindow[T]) -> bool:
        """Room for its next batch. Batches fit the device together if each fits the budget; a row
        that is larger than the budget waits until nothing is beside it, or little."""
        most = self.engine.in_flight
        if not self.flying or len(self.flying) >= most:
            return not self.flying
        cost = sum(flight.cost for flight in self.flying) + window.next_cost(self.engine)
        return cost <= most * self.engine.budget.tokens

    def _may_read(self) -> bool:
        """True if nothing is on the device, or a window is available without waiting and has room."""
        return not self.flying or (self._has_room() and self.is_ready())

    def _has_room(self) -> bool:
        """Room for one more window; windows without a batch of their own are bounded too."""
        most = self.engine.in_flight
        return len(self.flying) < most and len(self.open) <= most

    def _launch(self, window: _OpenWindow[T]) -> None:
        flight = window.next_flight(self.engine, self.control)
        if flight is None:
            return
        rows = np.concatenate([f.numbers for f in (*self.flying, flight)])
        self.control.forwarding(rows.tolist())
        if not self.flying:
            flight.begin(self.observe)
        if flight.attempt(flight.launch, self.engine, self.observe, self.stats):
            self.flying.append(flight)

    def _read(self) -> None:
        found = next(self.source, None)
        self.more = found is not None
        if found is not None:
            self.open.append(_OpenWindow.of(*found, self.engine))

    def _collect(self) -> None:
        flight = self.flying.popleft()
        flight.next = self.flying[0] if self.flying else None
        flight.attempt(flight.collect, self.engine, self.observe, self.stats)


def _none(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)


def _cost(lengths: np.ndarray, padded: bool) -> int:
    return int(len(lengths) * lengths.max()) if padded else int(lengths.sum())


def _smaller(
    batch: np.ndarray,
    tokens: int,
    error: Exception,
    engine: LoadedTask,
    faults: dict[int, RowError],
    stats: ChunkStats,
) -> list[np.ndarray]:
    """The halves of a failed batch that remain to be tried; nothing for a single row."""
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
    faults[int(batch[0])] = RowError(error_type_of(error), _message(error))
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
    faults: dict[int, RowError],
) -> Predictions:
    """Results of the batches in the order of the encodings; nulls where a row is an error."""
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
