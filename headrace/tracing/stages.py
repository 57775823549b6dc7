"""The stages of a piece of work; each is a sum over its calls, from any thread."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from headrace.storage.retry_count import retries_of_thread
from headrace.tracing.trace_file import Value
from schemas.names import telemetry as names

SAMPLES = 256
"""Call durations kept for a stage; chosen: p95 is good to some 1.5 points, for 2 kB a chunk."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Nanoseconds since the epoch, and nanoseconds that never go back."""

    wall_ns: Callable[[], int] = time.time_ns
    steady_ns: Callable[[], int] = time.perf_counter_ns


def new_id(size_bytes: int) -> str:
    """A random id, not all zeros, as lower-case hex; independent of any seeded generator."""
    while not any(raw := os.urandom(size_bytes)):
        pass
    return raw.hex()


class StageSums:
    """The sums of one stage so far; times are steady nanoseconds."""

    __slots__ = (
        "busy_ns",
        "calls",
        "counters",
        "first_ns",
        "last_ns",
        "raised",
        "raised_id",
        "samples",
        "span_id",
    )

    def __init__(self, first_ns: int) -> None:
        self.span_id = new_id(8)
        self.first_ns = first_ns
        self.last_ns = first_ns
        self.busy_ns = 0
        self.calls = 0
        self.raised = 0
        self.raised_id: int | None = None
        """`id()` of the last exception: the exception itself would keep its frames, and tensors."""
        self.counters: dict[str, float] = {}
        self.samples: list[int] = []

    def attributes(self) -> dict[str, Value]:
        """Busy time, calls, and the percentiles of the calls."""
        result: dict[str, Value] = {names.BUSY_NS: self.busy_ns, names.CALLS: self.calls}
        if self.raised:
            result[names.RAISED] = self.raised
        ordered = sorted(self.samples)
        for name, share in PERCENTILES if self.calls > 1 else ():
            result[name] = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        return result


PERCENTILES = ((names.CALL_P50_NS, 0.50), (names.CALL_P95_NS, 0.95), (names.CALL_P99_NS, 0.99))


class Stages:
    """All stages of one piece of work; thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sums: dict[str, StageSums] = {}
        self._random = random.Random(0)
        self._open: dict[Call, None] = {}

    def call(self, stage: str, counters: dict[str, float]) -> Call:
        return Call(self, stage, counters)

    def sums(self) -> list[tuple[str, StageSums]]:
        """Stages in the order of their first start; open calls end now, so that a hanging thread shows too."""
        for call in list(self._open):
            call.__exit__(None, None, None)
        with self._lock:
            return sorted(self._sums.items(), key=lambda item: item[1].first_ns)

    def stages_s(self) -> dict[str, float]:
        """Busy seconds of each stage so far."""
        with self._lock:
            return {stage: s.busy_ns / 1e9 for stage, s in self._sums.items()}

    def _enter(self, call: Call) -> int:
        self._open[call] = None
        return self._clock.steady_ns()

    def _leave(self, call: Call, error: BaseException | None) -> None:
        end_ns = self._clock.steady_ns()
        with self._lock:
            if self._open.pop(call, call) is call:
                return  # it was ended by `sums`
            sums = self._sums.get(call.stage)
            if sums is None:
                sums = self._sums[call.stage] = StageSums(call.start_ns)
            sums.first_ns = min(sums.first_ns, call.start_ns)
            sums.last_ns = max(sums.last_ns, end_ns)
            sums.busy_ns += end_ns - call.start_ns
            sums.calls += 1
            for name, value in call.counters.items():
                sums.counters[name] = sums.counters.get(name, 0) + value
            if error is not None:
                sums.raised += 1
                sums.raised_id = id(error)
            self._keep_sample(sums, end_ns - call.start_ns)

    def _keep_sample(self, sums: StageSums, duration_ns: int) -> None:
        """Source: Vitter, Random Sampling with a Reservoir, 1985, algorithm R."""
        if len(sums.samples) < SAMPLES:
            sums.samples.append(duration_ns)
        elif (at := self._random.randrange(sums.calls)) < SAMPLES:
            sums.samples[at] = duration_ns


class Call:
    """One call of a stage, as a context manager; used once, by one thread."""

    __slots__ = ("_retries", "_stages", "counters", "stage", "start_ns")

    def __init__(self, stages: Stages, stage: str, counters: dict[str, float]) -> None:
        self._stages = stages
        self.stage = stage
        self.counters = counters
        self.start_ns = 0
        self._retries = 0

    def add(self, **counters: float) -> None:
        for name, value in counters.items():
            self.counters[name] = self.counters.get(name, 0) + value

    def __enter__(self) -> Call:
        self._retries = retries_of_thread()
        self.start_ns = self._stages._enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        retries = retries_of_thread() - self._retries
        if retries > 0:  # negative if another thread ends a call that hangs
            self.add(retries=retries)
        self._stages._leave(self, error)
