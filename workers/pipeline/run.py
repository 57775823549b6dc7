"""The pipeline of one chunk: rows → ids → batches → predictions → rows, each stage a generator.

Nothing here knows of Redis, Celery, torch or a clock: the source, the task, the sink and the
control are passed in, so that a unit test runs a chunk with lists and the fake task.

    source ─windows→ prepare ─Prepared→ score ─Predictions→ assemble ─rows→ sink
              (thread: read, tokenize)   (the device's thread)      (thread: write)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from headrace.coordination.attempts import Suspicion
from headrace.tasks.contract import Task
from workers.pipeline.assemble import assemble
from workers.pipeline.forward import (
    Control,
    Engine,
    Observe,
    Predictions,
    score,
    score_windows,
)
from workers.pipeline.prefetch import Ahead, Behind
from workers.pipeline.reuse import Reuse
from workers.pipeline.rows import (
    ChunkStats,
    Late,
    Prepared,
    RowFault,
    Window,
)
from workers.pipeline.tokenize import encode_rows, prepare_window

Source = Callable[[], Iterable[Window]]
"""Reads the chunk's windows; may be called more than once."""


class Sink(Protocol):
    """Takes the rows of a part, in order; whoever calls it commits or discards afterwards."""

    def schema(self, carried: pa.Schema, task: list[pa.Field]) -> pa.Schema: ...
    def write(self, rows: pa.RecordBatch) -> None: ...


@dataclass(frozen=True, slots=True)
class Doubt:
    """What earlier deaths say, as text hashes, so that copies of a text share its fate."""

    condemned: dict[bytes, RowFault] = field(default_factory=dict)
    groups: tuple[tuple[int, ...], ...] = ()
    suspects: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Begun:
    """A chunk whose first windows are being read and tokenized."""

    prepared: Ahead[Prepared]
    doubt: Doubt
    windows: dict[int, Window]
    """Windows with suspects, by their first row; empty without suspects."""

    def close(self) -> None:
        self.prepared.close()


def run_chunk(
    source: Source,
    engine: Engine,
    sink: Sink,
    observe: Observe,
    control: Control,
    *,
    suspicion: Suspicion | None = None,
    trace_id: str | None = None,
    reuse: Reuse | None = None,
) -> ChunkStats:
    """Every row of the source in the sink, once, in order, ok or error.

    Raises:
        Stopped, LeaseLost: between two batches; the sink's rows are to be discarded.
    """
    begun = begin(source, engine.task, observe, control, suspicion or Suspicion(), reuse)
    return finish(begun, engine, sink, observe, control, trace_id=trace_id)


def begin(
    source: Source,
    task: Task,
    observe: Observe,
    control: Control,
    suspicion: Suspicion,
    reuse: Reuse | None = None,
) -> Begun:
    """Start to read and tokenize, on a thread, while the device is busy with another chunk."""
    doubt = _doubt(source, suspicion, observe)
    windows: dict[int, Window] = {}
    stream = _prepare(source, task, observe, control, doubt, windows, reuse)
    return Begun(Ahead(stream, depth=2, name="headrace-prepare"), doubt, windows)


def finish(
    begun: Begun,
    engine: Engine,
    sink: Sink,
    observe: Observe,
    control: Control,
    *,
    trace_id: str | None = None,
) -> ChunkStats:
    """Compute what `begin` prepares and write the rows behind; closes `begun`."""
    stats = ChunkStats()
    schema: pa.Schema | None = None

    def write(item: tuple[Prepared, Predictions, dict[bytes, Late]]) -> None:
        nonlocal schema
        with observe("write", rows=len(item[0].window)):
            if schema is None:
                schema = sink.schema(item[0].window.carried.schema, engine.task.columns())
            sink.write(assemble(*item, schema, trace_id, stats))

    try:
        with Behind(write, depth=2, name="headrace-write") as put:
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
    doubt: Doubt,
    windows: dict[int, Window],
    reuse: Reuse | None,
) -> Iterator[Prepared]:
    for window in source():
        control.encoding(window.start, window.start + len(window))
        with observe("tokenize", rows=len(window)) as stage:
            prepared = prepare_window(
                window,
                task,
                condemned=doubt.condemned,
                suspects=doubt.suspects,
                reuse=reuse,
            )
            if prepared.encodings is not None:
                stage.add(tokens=int(prepared.encodings.offsets[-1]))
        control.encoding(0, 0)
        if doubt.suspects and prepared.held_back:
            windows[window.start] = window
        yield prepared


def _scored(
    begun: Begun, engine: Engine, control: Control, observe: Observe, stats: ChunkStats
) -> Iterator[tuple[Prepared, Predictions, dict[bytes, Late]]]:
    """Windows with their predictions; where there are suspects, all others are computed first."""
    waiting: list[tuple[Prepared, Predictions]] = []
    windows = (
        (prepared, prepared.encodings, prepared.unique + prepared.window.start)
        for prepared in begun.prepared
    )
    ready = begun.prepared.is_ready
    scored = score_windows(windows, engine, control, observe, stats, is_ready=ready)
    for prepared, predictions in scored:
        if begun.doubt.groups:
            waiting.append((prepared, predictions))
        else:
            yield prepared, predictions, dict(prepared.reused)
    if waiting:
        late = _score_suspects(begun, engine, control, observe, stats)
        for prepared, predictions in waiting:
            yield prepared, predictions, {**prepared.reused, **late}
    control.forwarding(())


def _score_suspects(
    begun: Begun, engine: Engine, control: Control, observe: Observe, stats: ChunkStats
) -> dict[bytes, Late]:
    """Each group of suspects by itself: tokenized and computed with nothing else in flight."""
    late: dict[bytes, Late] = {}
    at = {start + i: (w, i) for start, w in begun.windows.items() for i in range(len(w))}
    for group in begun.doubt.groups:
        fresh: dict[bytes, int] = {}
        for row in group:
            window, i = at.get(row, (None, 0))
            digest = window.hashes[i] if window is not None else None
            if digest in begun.doubt.suspects and digest not in late:
                fresh.setdefault(digest, row)
        if fresh:
            late.update(_score_group(list(fresh.items()), at, engine, control, observe, stats))
    return late


def _score_group(
    group: list[tuple[bytes, int]],
    at: dict[int, tuple[Window, int]],
    engine: Engine,
    control: Control,
    observe: Observe,
    stats: ChunkStats,
) -> dict[bytes, Late]:
    control.check()
    rows = [row for _, row in group]
    control.forwarding(rows)
    sub = _sub_window([at[row] for row in rows])
    encodings, bad = encode_rows(sub, range(len(rows)), engine.task)
    late = {group[i][0]: Late(None, fault=fault) for i, fault in bad.items()}
    kept = [i for i in range(len(rows)) if i not in bad]
    found = score(encodings, np.array(rows)[kept], engine, control, observe, stats)
    for place, i in enumerate(kept):
        if place in found.faults:
            late[group[i][0]] = Late(None, fault=found.faults[place])
        else:
            assert encodings is not None
            late[group[i][0]] = Late(
                found.values.slice(place, 1),
                int(encodings.lengths[place]),
                bool(encodings.truncated[place]),
            )
    return late


def _sub_window(picked: list[tuple[Window, int]]) -> Window:
    first = picked[0][0]
    return Window(
        start=first.start,
        carried=first.carried.slice(0, 0),
        texts=[w.texts[i] for w, i in picked],
        hashes=[w.hashes[i] for w, i in picked],
        pairs=None if first.pairs is None else [w.pairs[i] for w, i in picked if w.pairs],
    )


def _doubt(source: Source, suspicion: Suspicion, observe: Observe) -> Doubt:
    """Row numbers to text hashes; reads the chunk once more, and only where there is suspicion."""
    if not suspicion.groups and not suspicion.condemned:
        return Doubt()
    condemned: dict[bytes, RowFault] = {}
    suspects: set[bytes] = set()
    wanted = suspicion.suspects
    for window in source():
        for i, digest in enumerate(window.hashes):
            row = window.start + i
            if digest is None:
                continue
            if row in suspicion.condemned:
                condemned[digest] = _verdict(suspicion.condemned[row])
            elif row in wanted:
                suspects.add(digest)
    return Doubt(condemned, suspicion.groups, frozenset(suspects - condemned.keys()))


def _verdict(cause: str) -> RowFault:
    did = (
        "took longer than the time limit of a batch"
        if cause == "timeout"
        else "ended its worker's process"
    )
    return RowFault(cause, f"this row, computed alone, {did} twice")
