"""One chunk through the pipeline: lists for a source and a sink, the fake task for a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from headrace.coordination.attempts import SuspectRows
from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tracing.chunk_trace import Observe, observe_nothing
from schemas.errors import DiskFull, Stopped
from schemas.records.text_hash import text_hash
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.ports import Control, Sink, Source
from workers.pipeline.reuse import Reuse
from workers.pipeline.rows import (
    ChunkStats,
    RowError,
    Window,
)
from workers.pipeline.run import run_chunk, start_chunk
from workers.tasks.fake import FakeOutOfMemory, FakeTask, digest_of

Text = str | RowError


class Died(BaseException):
    """In place of the end of a process by a row."""


def die(*_: object) -> None:
    raise Died


@dataclass
class ListSink:
    """Keeps the rows; fails at a row on demand."""

    fails_at: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def write(self, rows: pa.RecordBatch) -> None:
        self.rows += rows.to_pylist()
        if self.fails_at is not None and len(self.rows) > self.fails_at:
            raise DiskFull("no space")


@dataclass
class Marks:
    """A control that keeps the last mark, and stops before a batch on demand."""

    stop_before: int | None = None
    rows: tuple[int, ...] = ()
    window: tuple[int, int] | None = None
    batches: list[tuple[int, ...]] = field(default_factory=list)

    def check(self) -> None:
        if self.stop_before is not None and len(self.batches) >= self.stop_before:
            raise Stopped("drain")

    def forwarding(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        if rows:
            self.batches.append(tuple(rows))

    def encoding(self, start: int, stop: int) -> None:
        self.window = (start, stop) if stop > start else None


def window(texts: Sequence[Text], start: int) -> Window:
    ids = pa.array(range(start, start + len(texts)), pa.int64())
    hashes = [None if isinstance(t, RowError) else text_hash(t.encode()) for t in texts]
    return Window(start, pa.RecordBatch.from_arrays([ids], ["id"]), texts, hashes)


def source(texts: Sequence[Text], size: int = 50) -> Callable[[], Iterable[Window]]:
    return lambda: (window(texts[at : at + size], at) for at in range(0, len(texts), size))


class QueueTask(FakeTask):
    """Hands batches to a device with a queue: memory is asked for at once, all else comes later."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.told: list[str] = []

    def launch(self, batch: Encodings) -> Callable[[], list[str]]:
        first = str((batch.extra or ("",))[0])
        self.told.append(f"launch {first}")
        output: list[str] | Exception
        try:
            output = self.forward(batch)
        except FakeOutOfMemory:
            raise
        except Exception as error:
            output = error

        def wait() -> list[str]:
            self.told.append(f"wait {first}")
            if isinstance(output, Exception):
                raise output
            return output

        return wait


def engine(
    tokens: int = 400,
    sleep: Callable[[float], None] = time.sleep,
    in_flight: int = 1,
    **params: Any,
) -> LoadedTask:
    task = QueueTask(sleep=sleep, kill=die)
    task.load(LoadRequest("", "cpu", "float32", None, {"faults": True, **params}))
    return LoadedTask(task, Budget(tokens), padded=False, in_flight=in_flight)


def run_source(
    source: Source,
    engine: LoadedTask,
    sink: Sink,
    observe: Observe,
    control: Control,
    *,
    trace_id: str | None = None,
    suspicion: SuspectRows | None = None,
    reuse: Reuse | None = None,
) -> ChunkStats:
    """A chunk from its first row to its last, with no other one ahead."""
    task = engine.task
    chunk = start_chunk(source, task, observe, control, suspicion=suspicion, reuse=reuse)
    return run_chunk(chunk, engine, sink, trace_id=trace_id)


def run(
    texts: Sequence[Text], tokens: int = 400, in_flight: int = 1, **more: Any
) -> tuple[list[Any], ChunkStats]:
    sink, it = ListSink(), engine(tokens, in_flight=in_flight)
    stats = run_source(source(texts), it, sink, observe_nothing, Marks(), **more)
    return sink.rows, stats


def check(rows: list[Any], texts: Sequence[Text], errors: dict[int, str]) -> None:
    assert [r["id"] for r in rows] == list(range(len(texts)))
    assert {r["id"]: r["error_type"] for r in rows if r["status"] == "error"} == errors
    for row, text in zip(rows, texts, strict=True):
        expected = None if row["status"] == "error" else digest_of(str(text))
        assert row["digest"] == expected
