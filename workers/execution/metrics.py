"""A worker's metrics besides its spans: error classes, batches, and its device."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from headrace.process.logs import get_logger
from headrace.telemetry.provider import Telemetry
from schemas.names import telemetry as names
from workers.devices.device import CPU, memory_of
from workers.devices.heap import resident_bytes
from workers.devices.host_memory import container_limit_bytes
from workers.pipeline.generating.counts import GenerationCounts
from workers.pipeline.rows import ChunkStats

log = get_logger(__name__)


@dataclass(slots=True)
class DeviceUtilization:
    """Share of time and memory that a worker's device is used; sampled at the end of a chunk."""

    _since_monotonic: float = field(default_factory=time.monotonic)

    def share(self, busy_s: float, now_monotonic: float) -> float:
        """Share of the time since the last chunk's end that batches were on the device, 0 to 1."""
        elapsed_s, self._since_monotonic = now_monotonic - self._since_monotonic, now_monotonic
        return min(1.0, busy_s / elapsed_s) if elapsed_s > 0 else 1.0


def start_counters(telemetry: Telemetry, device: str) -> None:
    """Start the counters that alerts use at zero: the first increase is seen only from zero."""
    telemetry.record(names.LEASE_LOSSES, 0)
    telemetry.record(names.HALVINGS, 0, device=device)
    telemetry.record(names.ERRORS, 0, **{names.ERROR_TYPE: "out_of_memory"})
    telemetry.record(names.SPANS_DROPPED, 0, reason="queue_full")
    for reason in ("leased", "done", "late"):
        telemetry.record(names.REDELIVERIES, 0, reason=reason)
    for status in ("ok", "error"):
        telemetry.record(names.ROWS, 0, status=status)


def record_device(
    telemetry: Telemetry, use: DeviceUtilization, worker: str, device: str, forward_s: float
) -> None:
    """Set the gauges of the device's memory and utilization."""
    labels = {"worker": worker, "device": device}
    with suppress(RuntimeError):  # a lost device answers nothing, and the part is written
        used, limit = _memory(device)
        telemetry.record(names.MEMORY_USAGE, used, **labels)
        telemetry.record(names.MEMORY_LIMIT, limit, **labels)
    telemetry.record(names.UTILIZATION, use.share(forward_s, time.monotonic()), **labels)


def record_rows(
    telemetry: Telemetry, stats: ChunkStats, job: str, chunk: int, device: str, *, won: bool
) -> None:
    """Count what the spans' counters lack; rows only if the part is from this attempt."""
    if stats.batch_fill is not None:
        telemetry.record(names.BATCH_FILL, stats.batch_fill)
    telemetry.record(names.HALVINGS, stats.oom_halvings, device=device)
    if stats.oom_halvings:
        log.warning("batch.halved", job=job, chunk=chunk, count=stats.oom_halvings, device=device)
    for kind, rows in stats.errors_by_type.items() if won else ():
        telemetry.record(names.ERRORS, rows, **{names.ERROR_TYPE: kind, names.JOB_ID: job})


def record_generation(
    telemetry: Telemetry, counts: GenerationCounts, worker: str, device: str
) -> None:
    """Count tokens of prompts and answers, their speed, and how soon the first ones came."""
    if not counts.prompt_tokens:
        return
    telemetry.record(names.GENERATION_TOKENS, counts.prompt_tokens, direction="in")
    telemetry.record(names.GENERATION_TOKENS, counts.generated_tokens, direction="out")
    if counts.tokens_per_s is not None:
        telemetry.record(names.GENERATION_SPEED, counts.tokens_per_s, worker=worker, device=device)
    for rows, seconds in counts.first_tokens:
        for _ in range(rows):
            telemetry.record(names.FIRST_TOKEN, seconds)


def _memory(device: str) -> tuple[int, int]:
    """Bytes in use and total; on the CPU: of this process, and of the container or host."""
    if device != CPU:
        return memory_of()
    total = psutil.virtual_memory().total
    return resident_bytes(), min(total, container_limit_bytes() or total)
