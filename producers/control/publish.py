"""Fills the window of a queue: `dispatch_window` decides which chunks, this module sends them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import time

from headrace.assumptions import MODEL_LOAD_S
from headrace.process.logs import get_logger
from headrace.queue.queue import MessageQueue, QueueView
from headrace.tracing.job_trace import JobTrace
from headrace.tracing.spans import traceparent_of
from producers.control.demand import DemandReporter, demand_of
from producers.control.dispatch_window import (
    ChunkRun,
    JobDemand,
    ModelTurn,
    preempted,
    select_runs,
    window_size,
    yielding,
)
from producers.tracking.tracked_job import TrackedJob
from schemas.records.message import ScoreChunk
from schemas.records.model_key import engine_key

log = get_logger(__name__)


@dataclass(slots=True)
class Publisher:
    """Publishes chunks of the tracked jobs, queue by queue. Not thread-safe."""

    queue: MessageQueue
    reporter: DemandReporter
    least_workers: int = 1
    """Workers to assume if fewer are seen alive."""
    _turns: dict[str, ModelTurn | None] = field(default_factory=dict)
    """The current model turn, by queue."""

    def publish(
        self,
        queue: str,
        view: QueueView,
        jobs: Sequence[TrackedJob],
        traces: Mapping[str, JobTrace],
    ) -> None:
        """Send as much as the window of the queue has room for; `traces` by job key.

        Raises redis-py's own errors and BrokerError.
        """
        tracked = {job.job.key: job for job in jobs}
        workers = self.workers(queue)
        others = self._others(queue, tracked)
        room = window_size(workers) - view.messages + self._make_room(queue, tracked, others)
        own = [self._demand(job) for job in jobs]
        waiting = yielding(own, others)
        demands = [replace(d, ready=()) if d.job in waiting else d for d in own] + others
        runs, self._turns[queue] = select_runs(
            demands, max(0, room), workers, self._turns.get(queue)
        )
        runs = [
            r for r in runs if r.job in tracked
        ]  # the other jobs are published by their own controllers
        for run in runs:
            self._send(queue, tracked[run.job], run, traces[run.job])
        self._log(queue, tracked, runs)
        self.queue.keep_alive(queue)

    def workers(self, queue: str) -> int:
        """Workers of the queue that are alive, and at least as many as were promised."""
        live = sum(w.queue == queue for w in self.reporter.workers())
        return max(self.least_workers, live)

    def _send(self, queue: str, tracked: TrackedJob, run: ChunkRun, trace: JobTrace) -> None:
        job = tracked.job
        message = ScoreChunk(
            job=job.id, output=job.output, chunks=run.chunks, traceparent=traceparent_of(job)
        )
        with trace("publish", messages=1, chunks=len(run.chunks)):
            self.queue.send(message, queue)
        tracked.chunks.sent(run.chunks, time())

    def _log(self, queue: str, tracked: Mapping[str, TrackedJob], runs: Iterable[ChunkRun]) -> None:
        messages: Counter[str] = Counter()
        chunks: Counter[str] = Counter()
        for run in runs:
            messages[run.job] += 1
            chunks[run.job] += len(run.chunks)
        for key, published in messages.items():
            job = tracked[key].job.id
            log.info(
                "chunk.published", job=job, chunks=chunks[key], published=published, queue=queue
            )

    def _others(self, queue: str, tracked: Mapping[str, TrackedJob]) -> list[JobDemand]:
        """What the other controllers' jobs of the queue could send, since they share the window."""
        others = self.reporter.others.items()
        return [demand_of(f, key) for key, f in others if f.queue == queue and key not in tracked]

    def _make_room(
        self, queue: str, tracked: Mapping[str, TrackedJob], others: Sequence[JobDemand]
    ) -> int:
        """Withdraw messages that wait in front of a more urgent job; returns how many."""
        passed = preempted([*(demand_of_job(t) for t in tracked.values()), *others])
        passed &= frozenset(tracked)  # each controller withdraws its own
        if not passed:
            return 0
        found = self.queue.withdraw(queue, passed)
        for message in found:
            tracked[message.key].chunks.taken_back(message.chunks)
        return len(found)

    def _demand(self, tracked: TrackedJob) -> JobDemand:
        """What the job could send, with the measured load time of its model."""
        demand = demand_of_job(tracked)
        facts = self.reporter.facts.get(tracked.job.key)
        if facts is None:
            return demand
        load_s = MODEL_LOAD_S if facts.load_s is None else facts.load_s
        return replace(demand, load_s=load_s, chunk_s=facts.chunk_s)


def demand_of_job(tracked: TrackedJob) -> JobDemand:
    """What a job of this controller could send now."""
    ready, counts = tuple(tracked.ready()), tracked.chunks.counts
    return JobDemand(
        tracked.job.key,
        tracked.job.options.priority,
        ready,
        in_flight=counts["sent"],
        remaining=counts["new"] + counts["sent"],
        alone=frozenset(tracked.chunks.isolated.intersection(ready)),
        model=engine_key(tracked.job),
    )
