"""The pipeline of one chunk: rows → ids → batches → predictions → rows, each stage a generator.

This module does not use Redis, Celery, torch or a clock. The source, task, sink and control are
passed in, so that a unit test runs a chunk with lists and the fake task.

    source ─Window→ tokenize ─TokenizedWindow→ forward ─Predictions→ assemble ─rows→ sink
    └─ start_chunk: a thread reads, tokenizes ─┘└─ run_chunk: the device's thread; one writes ─┘
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from headrace.coordination.attempts import SuspectRows
from headrace.tasks.contract import Task
from headrace.tracing.chunk_trace import Observe
from workers.pipeline.assemble import assemble_rows
from workers.pipeline.forward import score_windows
from workers.pipeline.generating.generate import generate_windows
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control, Profile, Sink, Source
from workers.pipeline.reuse import Reuse
from workers.pipeline.rows import (
    ChunkStats,
    HeldBackResult,
    Predictions,
    TokenizedWindow,
    Window,
)
from workers.pipeline.suspects import SuspectTexts, find_suspects, score_suspects
from workers.pipeline.tokenize import cut_by_items, tokenize_window

T = TypeVar("T")

_POLL_S = 0.2  # chosen: how soon a thread notices that its items are not wanted any more


# -- between the stages: bounded queues, one thread each; an error is raised to the other side


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetcher(Generic[T]):
    """An iterator whose items are made on a thread of their own, at most `depth` ahead.

    The thread starts at once. `close` ends it after the current item; so does iterating to the end
    or to an error, which is raised to the iterating thread. Calling `close` twice is safe.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                self._thread.join()
                if item.error is not None:
                    raise item.error
                return
            yield item

    def is_ready(self) -> bool:
        """True when the next item, or the end, is available without waiting."""
        return not self._queue.empty()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _fill(self, items: Iterable[T]) -> None:
        end = _End()
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:  # raised to the consumer, whatever it is
            end = _End(error)
        self._put(end)

    def _put(self, item: T | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False


class BackgroundWriter(Generic[T]):
    """A consumer on a thread of its own, at most `depth` items behind: `with Behind(...) as put`.

    Leaving the block waits for the last item. An error of the consumer is raised by the next
    `put` or on leaving. If the block itself fails, waiting items are dropped.
    """

    def __init__(self, consume: Callable[[T], None], depth: int, name: str) -> None:
        self._consume = consume
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._drain, name=name, daemon=True)

    def __enter__(self) -> Callable[[T], None]:
        self._thread.start()
        return self._put

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandoned.set()
        self._queue.put(_End())
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _put(self, item: T) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def _drain(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                return
            if self._error is None and not self._abandoned.is_set():
                try:
                    self._consume(item)
                except BaseException as error:  # raised to the producer by the next put
                    self._error = error


# -- the stages


@dataclass(slots=True)
class StartedChunk:
    """A chunk whose first windows are being read and tokenized."""

    tokenized: Prefetcher[TokenizedWindow]
    suspects: SuspectTexts
    windows: dict[int, Window]
    """Windows with suspects, by their first row; empty without suspects."""
    observe: Observe
    control: Control

    def close(self) -> None:
        """Stop reading; safe to call twice, and after `run_chunk`."""
        self.tokenized.close()


def start_chunk(
    source: Source,
    task: Task,
    observe: Observe,
    control: Control,
    *,
    suspicion: SuspectRows | None = None,
    reuse: Reuse | None = None,
) -> StartedChunk:
    """A chunk being read and tokenized on a thread, possibly while another is on the device.

    Pass it to `run_chunk`, or close it. With suspects it raises what the source raises.
    """
    suspects = find_suspects(source, suspicion or SuspectRows())
    windows: dict[int, Window] = {}
    stream = _tokenized(source, task, observe, control, suspects, windows, reuse)
    prefetcher = Prefetcher(stream, depth=2, name="headrace-prepare")
    return StartedChunk(prefetcher, suspects, windows, observe, control)


def run_chunk(
    chunk: StartedChunk,
    engine: LoadedTask,
    sink: Sink,
    *,
    trace_id: str | None = None,
    profile: Profile | None = None,
) -> ChunkStats:
    """Write every row of the chunk to the sink, once, in order, ok or error; closes the chunk.

    Rows are written in the background, on a thread, which also counts them into the profile.

    Raises:
        Stopped, LeaseLost: between two batches; the caller must discard the sink's rows.
        DeviceLost: the device accepts no more work from this process.
    """
    stats, answers = ChunkStats(), engine.task.columns()

    def write(item: tuple[TokenizedWindow, Predictions, dict[bytes, HeldBackResult]]) -> None:
        with chunk.observe("write", rows=len(item[0].window)):
            rows = assemble_rows(*item, answers, trace_id, stats)
            sink.write(rows)
        if profile is not None:
            profile.add(item[0], rows)

    try:
        with BackgroundWriter(write, depth=2, name="headrace-write") as put:
            for item in _scored(chunk, engine, stats):
                put(item)
    finally:
        chunk.close()
    stats.tokenizer, stats.warnings = engine.tokenizer_library, engine.warnings
    return stats


def _tokenized(
    source: Source,
    task: Task,
    observe: Observe,
    control: Control,
    suspects: SuspectTexts,
    windows: dict[int, Window],
    reuse: Reuse | None,
) -> Iterator[TokenizedWindow]:
    for window in (part for read in source() for part in cut_by_items(read, task)):
        control.encoding(window.start, window.start + len(window))
        with observe("tokenize", rows=len(window)) as stage:
            prepared = tokenize_window(
                window,
                task,
                poison=suspects.poison,
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
    chunk: StartedChunk, engine: LoadedTask, stats: ChunkStats
) -> Iterator[tuple[TokenizedWindow, Predictions, dict[bytes, HeldBackResult]]]:
    """Windows with their predictions; suspects, if any, are computed after all others."""
    observe, control = chunk.observe, chunk.control
    waiting: list[tuple[TokenizedWindow, Predictions]] = []
    windows = (
        (window, window.encodings, window.unique + window.window.start)
        for window in chunk.tokenized
    )
    if engine.generates:
        predicted = generate_windows(windows, engine, control, observe, stats)
    else:
        ready = chunk.tokenized.is_ready
        predicted = score_windows(windows, engine, control, observe, stats, is_ready=ready)
    for window, predictions in predicted:
        if chunk.suspects.groups:
            waiting.append((window, predictions))
        else:
            yield window, predictions, dict(window.reused)
    if waiting:
        late = score_suspects(chunk.suspects, chunk.windows, engine, control, observe, stats)
        for window, predictions in waiting:
            yield window, predictions, {**window.reused, **late}
    control.forwarding(())
