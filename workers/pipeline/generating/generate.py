"""Generates the texts of windows: the counterpart of `forward` for tasks that generate.

The task gets all prompts of a window and batches them itself. A prompt that fails becomes an error
row. Running rows are written to the lease, so that a row that kills the process is found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings
from headrace.tasks.generation.answer import Answer
from headrace.tracing.chunk_trace import Observe
from schemas.errors import HeadraceError, OutputMismatch, error_type_of
from workers.pipeline.forward import WindowInput
from workers.pipeline.generating.counts import GenerationCounts
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control
from workers.pipeline.rows import ChunkStats, Predictions, RowError

T = TypeVar("T")
MARK_S = 1.0
"""Shortest time between two reports of the same rows. Chosen: a report is a call to Redis, and
restarts the time limit of a step."""


def generate(
    encodings: Encodings | None,
    rows: np.ndarray,
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> Predictions:
    """Predictions for all encodings of one window, see `generate_windows`."""
    one: list[WindowInput[None]] = [(None, encodings, rows)]
    ((_, found),) = generate_windows(one, engine, control, observe, stats)
    return found


def generate_windows(
    windows: Iterable[WindowInput[T]],
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> Iterator[tuple[T, Predictions]]:
    """Predictions of each window, in order.

    Raises:
        Stopped, LeaseLost: from `control.check`; results not yet yielded are dropped.
        DeviceLost: the device accepts no more work from this process.
    """
    for what, encodings, numbers in windows:
        if encodings is None:
            empty = _values(engine, None, {}, 0)
            yield what, Predictions(empty, np.zeros(0, dtype=bool))
        else:
            yield what, _generated(encodings, numbers, engine, control, observe, stats)


def _generated(
    encodings: Encodings,
    numbers: np.ndarray,
    engine: LoadedTask,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> Predictions:
    task: Any = engine.task
    watch = ControlWatch(control, numbers)
    answers: dict[int, Answer] = {}
    with observe("forward", rows=len(encodings)) as stage:
        began = watch.clock()
        for answer in task.generate(encodings, watch, engine.budget.tokens):
            answers[answer.row] = answer
        generated = sum(it.n_generated for it in answers.values() if it.error is None)
        counted = _counted(answers, len(encodings))
        prompt_tokens = int((encodings.row_tokens if counted is None else counted).sum())
        tokens = prompt_tokens + generated
        stage.add(
            tokens=tokens, prompt_tokens=prompt_tokens, generated_tokens=generated,
            batches=watch.steps,
        )  # fmt: skip
        _count_tokens(stats.generation, prompt_tokens, generated, watch, watch.clock() - began)
    if answers.keys() != set(range(len(encodings))):
        raise OutputMismatch(f"the engine gave {len(answers)} answers for {len(encodings)} prompts")
    faults = {row: _fault(it.error) for row, it in answers.items() if it.error is not None}
    good = {row: it for row, it in answers.items() if it.error is None}
    with observe("decode", rows=len(good)):
        values = _values(engine, encodings, good, len(encodings))
    _count(stats, engine, watch, tokens, len(good))
    computed = np.array([row in good for row in range(len(encodings))], dtype=bool)
    return Predictions(values, computed, faults, counted)


def _counted(answers: dict[int, Answer], rows: int) -> np.ndarray | None:
    """Tokens of each row's prompt, int64 `[rows]`, if the engine counts them; 0 for an error."""
    known = {row: it.n_prompt for row, it in answers.items() if it.n_prompt is not None}
    if not known:
        return None
    return np.array([known.get(row, 0) for row in range(rows)], dtype=np.int64)


def _values(
    engine: LoadedTask, encodings: Encodings | None, good: dict[int, Answer], rows: int
) -> pa.RecordBatch:
    """The task's columns, one value per row; null where there is no answer."""
    schema = pa.schema(engine.task.columns())
    if encodings is None or not good:
        return pa.RecordBatch.from_arrays([pa.nulls(rows, f.type) for f in schema], schema=schema)
    places = np.array(sorted(good), dtype=np.int64)
    found = engine.task.decode(encodings.take(places), [good[row] for row in places.tolist()])
    if found.num_rows != len(places):
        raise OutputMismatch(f"decode gave {found.num_rows} rows for {len(places)}")
    at = np.zeros(rows, dtype=np.int64)
    missing = np.ones(rows, dtype=bool)
    at[places], missing[places] = np.arange(len(places)), False
    return found.take(pa.array(at, mask=missing))


def _fault(error: Exception) -> RowError:
    if isinstance(error, HeadraceError):
        return RowError(error_type_of(error), str(error))
    return RowError(error_type_of(error), f"{type(error).__name__}: {error}"[:500])


def _count_tokens(
    counts: GenerationCounts, read: int, written: int, watch: ControlWatch, seconds: float
) -> None:
    counts.prompt_tokens += read
    counts.generated_tokens += written
    counts.seconds += seconds
    counts.first_tokens += watch.firsts


def _count(
    stats: ChunkStats, engine: LoadedTask, watch: ControlWatch, tokens: int, good: int
) -> None:
    stats.computed += good
    stats.batches += watch.steps
    stats.tokens += tokens
    stats.oom_halvings += watch.halvings
    if watch.halvings and watch.smallest is not None:
        engine.budget = engine.budget.after_out_of_memory(watch.smallest)
        engine.on_halved(engine.budget)


@dataclass(slots=True)
class ControlWatch:
    """Passes the engine's events to the chunk's control."""

    control: Control
    numbers: np.ndarray
    """Each prompt's row number in the chunk."""
    steps: int = 0
    halvings: int = 0
    smallest: int | None = None
    """Tokens of the smallest batch that ran out of memory."""
    firsts: list[tuple[int, float]] = field(default_factory=list)
    """Rows that started together, and seconds until their first token."""
    clock: Callable[[], float] = time.monotonic
    _marked: frozenset[int] = frozenset()
    _held: frozenset[int] = frozenset()
    _marked_at: float = field(default=float("-inf"))

    def check(self) -> None:
        """See `Watch.check`."""
        self.control.check()
        if self._held and self.clock() - self._marked_at >= MARK_S:
            self._mark()

    def holding(self, rows: Collection[int]) -> None:
        """See `Watch.holding`; ended rows stay reported until others start, or for a second."""
        self._held = frozenset(rows)
        if self._held - self._marked:
            self._mark()

    def stepped(self, *, rows: int, tokens: int) -> None:
        """See `Watch.stepped`."""
        self.steps += 1

    def first_tokens(self, rows: int, seconds: float) -> None:
        """See `Watch.first_tokens`."""
        self.firsts.append((rows, seconds))

    def out_of_memory(self, tokens: int) -> None:
        """See `Watch.out_of_memory`."""
        self.halvings += 1
        self.smallest = min(tokens, self.smallest or tokens)

    def _mark(self) -> None:
        self.control.forwarding(self.numbers[sorted(self._held)].tolist())
        self._marked, self._marked_at = self._held, self.clock()
