"""Reads the traces of a job: stages, batches, failed attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from headrace.storage.store import PARALLEL_READS, Store
from headrace.tracing.trace_file import SpanRow, read_spans
from schemas.errors import HeadraceError
from schemas.names import output_layout
from schemas.names import telemetry as names

T = TypeVar("T")

TRACES = 300
"""Traces read; chosen: the plots of a large job do not change with more."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """A stage of the mean chunk: its start and end in seconds after the attempt's start, and its busy seconds."""

    stage: str
    start_s: float
    end_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    chunk: int
    outcome: str
    error_type: str
    worker: str
    started_s: float
    seconds: float
    trace_id: str


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def read_traces(store: Store) -> list[list[SpanRow]]:
    """Spans by attempt: all attempts of chunks that had several, and a sample of the others."""
    by_chunk: dict[str, list[str]] = defaultdict(list)
    for info in store.list(f"{output_layout.TRACES}part-"):
        by_chunk[info.name.split("-")[1]].append(info.name)
    several = [n for files in by_chunk.values() if len(files) > 1 for n in files]
    single = [files[0] for files in by_chunk.values() if len(files) == 1]
    chosen = evenly(several, TRACES) + evenly(single, TRACES)
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return [spans for spans in pool.map(lambda name: _spans(store, name), chosen) if spans]


def _spans(store: Store, name: str) -> list[SpanRow]:
    try:
        return read_spans(store.read(name) or b"")
    except HeadraceError:
        return []  # a broken trace costs a sample, not the report


def mean_stages(traces: Iterable[list[SpanRow]]) -> Iterator[StageTimes]:
    """The mean chunk, stage by stage, in the pipeline's order."""
    seen: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for spans in traces:
        root = next((s for s in spans if s.parent_span_id is None), None)
        if root is None or root.attributes.get(names.OUTCOME) != "ok":
            continue
        for span in spans:
            if names.STAGE in span.attributes:
                start = (span.start_time_unix_nano - root.start_time_unix_nano) / 1e9
                busy = float(span.attributes[names.BUSY_NS]) / 1e9
                seen[str(span.attributes[names.STAGE])].append(
                    (start, start + span.duration_nano / 1e9, busy)
                )
    for stage in [*names.STAGES, *sorted(set(seen) - set(names.STAGES))]:
        if stage in seen:
            start, end, busy = np.mean(seen[stage], axis=0)
            yield StageTimes(stage, float(start), float(end), float(busy))


def batch_seconds(traces: Iterable[list[SpanRow]]) -> np.ndarray:
    samples = [
        np.asarray(span.sample_ns) / 1e9
        for spans in traces
        for span in spans
        if span.attributes.get(names.STAGE) == "forward"
    ]
    return np.concatenate(samples) if samples else np.empty(0)


def failed_attempts(traces: Iterable[list[SpanRow]]) -> Iterator[FailedAttempt]:
    for spans in traces:
        for root in spans:
            outcome = str(root.attributes.get(names.OUTCOME, ""))
            if root.parent_span_id is None and outcome not in ("ok", ""):
                yield FailedAttempt(
                    chunk=int(root.attributes[names.CHUNK]),
                    outcome=outcome,
                    error_type=str(root.attributes.get(names.ERROR_TYPE, "")),
                    worker=str(root.attributes.get(names.WORKER, "")),
                    started_s=root.start_time_unix_nano / 1e9,
                    seconds=root.duration_nano / 1e9,
                    trace_id=root.trace_id,
                )
