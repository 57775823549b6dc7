"""The pipeline of one chunk: rows → ids → batches → predictions → rows, each stage a generator.

Nothing here knows of Redis, Celery, torch or a clock: the source, the task, the sink and the
control are passed in, so that a unit test runs a chunk with lists and the fake task.

    source ─windows→ prepare ─Prepared→ score ─Predictions→ assemble ─rows→ sink
              (thread: read, tokenize)   (the device's thread)      (thread: write)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from headrace.coordination.attempts import SuspectRows
from headrace.tasks.contract import Task
from workers.pipeline.assemble import assemble_rows
from workers.pipeline.forward import Predictions, score_windows
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control, Observe, Sink, Source
from workers.pipeline.prefetch import BackgroundWriter, Prefetcher
from workers.pipeline.reuse import Reuse
from workers.pipeline.rows import (
    ChunkStats,
    HeldBackResult,
    TokenizedWindow,
    Window,
)
from workers.pipeline.suspects import SuspectTexts, find_suspects, score_suspects
from workers.pipeline.tokenize import tokenize_window


@dataclass(slots=True)
class StartedChunk:
    """A chunk whose first windows are being read and tokenized."""

    prepared: Prefetcher[TokenizedWindow]
    suspects: SuspectTexts
    windows: dict[int, Window]
    """Windows with suspects, by their first row; empty without suspects."""

    def close(self) -> None:
        self.prepared.close()


def run_chunk(
    source: Source,
    engine: LoadedTask,
    sink: Sink,
    observe: Observe,
    control: Control,
    *,
    suspicion: SuspectRows | None = None,
    trace_id: str | None = None,
    reuse: Reuse | None = None,
) -> ChunkStats:
    """Every row of the source in the sink, once, in order, ok or error.

    Raises:
        Stopped, LeaseLost: between two batches; the sink's rows are to be discarded.
    """
    begun = begin(source, engine.task, observe, control, suspicion or SuspectRows(), reuse)
    return finish(begun, engine, sink, observe, control, trace_id=trace_id)


def begin(
    source: Source,
    task: Task,
    observe: Observe,
    control: Control,
    suspicion: SuspectRows,
    reuse: Reuse | None = None,
) -> StartedChunk:
    """Start to read and tokenize, on a thread, while the device is busy with another chunk."""
    suspects = find_suspects(source, suspicion)
    windows: dict[int, Window] = {}
    stream = _prepare(source, task, observe, control, suspects, windows, reuse)
    return StartedChunk(Prefetcher(stream, depth=2, name="headrace-prepare"), suspects, windows)


def finish(
    begun: StartedChunk,
    engine: LoadedTask,
    sink: Sink,
    observe: Observe,
    control: Control,
    *,
    trace_id: str | None = None,
) -> ChunkStats:
    """Compute what `begin` prepares and write the rows behind; closes `begun`."""
    stats = ChunkStats()
    schema: pa.Schema | None = None

    def write(item: tuple[TokenizedWindow, Predictions, dict[bytes, HeldBackResult]]) -> None:
        nonlocal schema
        with observe("write", rows=len(item[0].window)):
            if schema is None:
                schema = sink.schema(item[0].window.carried.schema, engine.task.columns())
            sink.write(assemble_rows(*item, schema, trace_id, stats))

    try:
        with BackgroundWriter(write, depth=2, name="headrace-write") as put:
            for item in _scored(begun, engine, control, observe, stats):
                put(item)
    finally:
        begun.close()
    return stats


def _prepare(
    source: Source,
    task: Task,
    observe: Observe,
    control: Control,
    suspects: SuspectTexts,
    windows: dict[int, Window],
    reuse: Reuse | None,
) -> Iterator[TokenizedWindow]:
    for window in source():
        control.encoding(window.start, window.start + len(window))
        with observe("tokenize", rows=len(window)) as stage:
            prepared = tokenize_window(
                window,
                task,
                condemned=suspects.condemned,
                suspects=suspects.suspects,
                reuse=reuse,
            )
            if prepared.encodings is not None:
                stage.add(tokens=int(prepared.encodings.offsets[-1]))
        control.encoding(0, 0)
        if suspects.suspects and prepared.held_back:
            windows[window.start] = window
        yield prepared


def _scored(
    begun: StartedChunk, engine: LoadedTask, control: Control, observe: Observe, stats: ChunkStats
) -> Iterator[tuple[TokenizedWindow, Predictions, dict[bytes, HeldBackResult]]]:
    """Windows with their predictions; where there are suspects, all others are computed first."""
    waiting: list[tuple[TokenizedWindow, Predictions]] = []
    windows = (
        (prepared, prepared.encodings, prepared.unique + prepared.window.start)
        for prepared in begun.prepared
    )
    ready = begun.prepared.is_ready
    scored = score_windows(windows, engine, control, observe, stats, is_ready=ready)
    for prepared, predictions in scored:
        if begun.suspects.groups:
            waiting.append((prepared, predictions))
        else:
            yield prepared, predictions, dict(prepared.reused)
    if waiting:
        late = score_suspects(begun.suspects, begun.windows, engine, control, observe, stats)
        for prepared, predictions in waiting:
            yield prepared, predictions, {**prepared.reused, **late}
    control.forwarding(())
