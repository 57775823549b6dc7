"""The job's own trace for the life of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.settings import Settings
from headrace.telemetry.provider import Telemetry, start_telemetry
from headrace.tracing.job_trace import JobTrace


@contextmanager
def job_trace(settings: Settings) -> Iterator[tuple[JobTrace, Telemetry]]:
    """A trace whose spans are exported, and saved with the job, when the block ends."""
    telemetry = start_telemetry("headrace-producer", settings)
    trace = JobTrace(telemetry, queue=settings.queue)
    try:
        yield trace, telemetry
    except BaseException as error:
        trace.end(error=error)
        raise
    finally:
        trace.end()
        if trace.store is not None and settings.traces:
            trace.save(trace.store)
        telemetry.shutdown(5.0)
