"""The job, plan and stores behind the address in a message, cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.output.job_record import check_plan, read_job
from headrace.output.plan_file import PlanTable
from headrace.output.reuse_index import ReuseIndex
from headrace.storage.store import Store
from schemas.errors import MessageRejected, OutOfReach, OutputConflict, UsageError
from schemas.records.chunk import Chunk
from schemas.records.job import Job
from schemas.records.message import ScoreChunk
from workers.pipeline.reuse import EarlierOutput

_JOBS_KEPT = 8  # chosen: a worker alternates between a few jobs; a plan of 100,000 chunks is ~10 MB


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job with its plan and stores, as a worker needs it."""

    job: Job
    plan: PlanTable
    store: Store
    earlier: EarlierOutput | None = None
    """The output whose rows may be copied."""

    noted: set[str] = field(default_factory=set)
    """What this process has done for the job once."""

    def chunk(self, number: int) -> Chunk:
        return self.plan.chunk(number)

    def note_once(self, what: str) -> bool:
        """True the first time that it is asked."""
        is_new = what not in self.noted
        self.noted.add(what)
        return is_new


class JobCache:
    """Jobs by address; reads each job's record and plan once."""

    def __init__(self, open_store: Callable[[str], Store]) -> None:
        self._open = open_store
        self._known: OrderedDict[tuple[str, str], JobContext] = OrderedDict()

    def find(self, message: ScoreChunk) -> JobContext:
        """The job of a message.

        Raises:
            MessageRejected: the output holds no such job, or no such chunk.
            StorageError: the store is unreachable.
        """
        key = (message.job, message.output)
        if key not in self._known:
            self._known[key] = self._load(message)
            while len(self._known) > _JOBS_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        work = self._known[key]
        if max(message.chunks) >= len(work.plan):
            raise MessageRejected(
                f"chunk {max(message.chunks)} is not in the plan of job {message.job}"
            )
        return work

    def _load(self, message: ScoreChunk) -> JobContext:
        try:
            store = self._open(message.output)
        except (
            UsageError
        ) as error:  # no such folder, not one that we may touch, or an extra is missing
            raise OutOfReach(str(error)) from error
        try:
            job = read_job(store)
        except OutputConflict as error:
            raise MessageRejected(str(error)) from error
        if job is None:
            where = "a folder" if store.is_local else "a bucket"
            raise OutOfReach(f"no job in {store.uri}: is it {where} that this worker's host sees?")
        if job.id != message.job:
            raise MessageRejected(f"{store.uri} holds job {job.id}, the message says {message.job}")
        try:
            plan = PlanTable.load(store)
            check_plan(job, plan, store.uri)
        except OutputConflict as error:
            raise MessageRejected(str(error)) from error
        return JobContext(job, plan, store, self._earlier(job, store))

    def _earlier(self, job: Job, store: Store) -> EarlierOutput | None:
        if job.options.reuse_output is None:
            return None
        try:
            earlier = self._open(job.options.reuse_output)
            return EarlierOutput(ReuseIndex.open(store), earlier)
        except (UsageError, OSError) as error:
            raise OutOfReach(f"what job {job.id} reuses is out of reach: {error}") from error
