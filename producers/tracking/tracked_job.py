"""Keeps the state of one job in step with its output and with Redis.

The store is authoritative. Redis is read first because it is fast; before a chunk is sent again,
and before a job ends, the store is read. `chunk_states` and `lost_chunks` decide what to do with
each chunk; this module reads, writes and logs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from headrace.coordination.attempts import attempt_of_death, read_attempts
from headrace.coordination.leases import LeaseBook, Mark
from headrace.coordination.redis_clock import redis_now
from headrace.coordination.redis_values import as_count
from headrace.coordination.store_trouble import StoreTrouble, parse_trouble
from headrace.formats.input_identity import has_same_bytes
from headrace.formats.opener import etag_of
from headrace.output.plan_file import PlanTable
from headrace.process.logs import get_logger
from headrace.queue.queue import QueueView
from headrace.redis_client import RedisClient, as_text
from headrace.storage.store import Store
from headrace.storage.uri import split_uri
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from headrace.tracing.crash_trace import record_crash
from producers.records.manifest import ReceiptBook, parts_of
from producers.tracking.chunk_states import DONE, PARKED, SENT, ChunkStates
from producers.tracking.failures import JobFailures
from producers.tracking.flags import JobFlags, copy_to_redis, read_flags
from producers.tracking.live_counts import LiveCounts
from producers.tracking.lost_chunks import fate_of
from schemas.errors import HeadraceError
from schemas.names import output_layout, redis_keys
from schemas.records.chunk import InputFile
from schemas.records.job import Job
from schemas.records.manifest import (
    Parked,
    Receipt,
    parse_parked,
)

log = get_logger(__name__)

FLAGS_S = 5.0  # chosen: how often cancel and pause are looked for in the store

REFUSALS = 8  # chosen: more than the workers of one misconfigured host send before others answer


@dataclass(slots=True)
class TrackedJob:
    """A job and the state of its chunks, with methods that update both. Not thread-safe."""

    job: Job
    store: Store
    plan: PlanTable
    client: RedisClient
    controller: str
    emitter: Emitter = field(default_factory=Telemetry)
    """Exports the spans of attempts whose crash is detected here."""
    keep_traces: bool = True
    """Whether those spans are written under `_traces/` too."""
    chunks: ChunkStates = field(init=False)
    book: ReceiptBook = field(init=False)
    flags: JobFlags = field(default_factory=JobFlags)
    open_store: Callable[[str], Store] | None = None
    """Opens the store of an input, to check a file that a worker reports as changed; None: never."""
    failures: JobFailures = field(init=False)
    """The failed attempts, for what they say about the hosts and the job."""
    fatal: str | None = None
    """Why the job can never succeed, as text."""
    cause: str = ""
    """The class of the error that ended it, if any."""
    error_rows: int = 0
    store_trouble: StoreTrouble | None = None
    """What the workers wait for, as the last of them said."""
    _counts: LiveCounts = field(init=False)
    _flags_monotonic: float = 0.0
    _hosts: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        self.chunks = ChunkStates(len(self.plan))
        self.failures = JobFailures(len(self.plan))
        self.book = ReceiptBook(self.job, self.store, self.client)
        self._counts = LiveCounts(self.job, self.client, self.controller, self.book)

    # -- what is known

    def load(self) -> None:
        """Read everything from the store: at the start, and after Redis lost its data."""
        names = (
            output_layout.chunk_of_record(i.name) for i in self.store.list(output_layout.PARKED)
        )
        parked = [chunk for chunk in names if chunk is not None]
        self.chunks.reset(parts_of(self.store), parked)
        self.read_flags()
        self._counts.begin()
        self._count_parts()
        self._counts.announce()

    def knows_redis(self) -> bool:
        """Whether Redis still has what `load` wrote."""
        return self._counts.is_known()

    def read_flags(self) -> None:
        """The cancel and pause flags in the store; copies them to Redis for the workers."""
        before, self.flags = self.flags, read_flags(self.store)
        self._flags_monotonic = time.monotonic()
        if self.flags.cancelled is not None and before.cancelled is None:
            log.info("job.cancelled", job=self.job.id, reason=self.flags.cancelled)
        if self.flags.paused and not before.paused:
            log.info("job.paused", job=self.job.id)
        copy_to_redis(self.client, self.job, self.flags)

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is sent: the job is cancelled, paused, or cannot succeed."""
        return self.flags.cancelled is not None or self.flags.paused or self.fatal is not None

    # -- one tick

    def tick(self, queue: QueueView, hosts: AbstractSet[str] = frozenset()) -> None:
        """Find crashed attempts, done chunks and lost chunks.

        `hosts` are live, serve the job's queue and are not excluded. Raises redis-py's own errors
        and StorageError.
        """
        self._hosts = hosts
        if time.monotonic() - self._flags_monotonic > FLAGS_S:
            self.read_flags()
        book = LeaseBook(self.client, self.job.key, 1.0)
        alive, dead = book.look()
        self._record_crashes(book, dead)
        self.chunks.leased(alive)
        self._follow_sent(alive, queue)
        self._read_counters()

    def _record_crashes(self, book: LeaseBook, dead: Mapping[int, Mark]) -> None:
        """Marks without a lease: record each crash, unless the chunk has its part."""
        for chunk, mark in dead.items():
            if not self.chunks.has(chunk):
                continue
            if not self._found_part(chunk):
                self._record_crash(chunk, mark)
                self.chunks.crashed(chunk)
            book.forget(chunk, mark)

    def _record_crash(self, chunk: int, mark: Mark) -> None:
        crash = attempt_of_death(chunk, mark, time.time(), self.controller, redis_now(self.client))
        if crash is None:
            return
        record_crash(self.job, self.store, crash, mark, self.emitter, keep=self.keep_traces)
        self.chunks.isolated.add(chunk)
        log.warning("attempt.recorded", job=self.job.id, chunk=chunk, cause=crash.cause)

    def _follow_sent(self, alive: Collection[int], queue: QueueView) -> None:
        sent = self.chunks.chunks(SENT)
        if not sent:
            return
        committed = self.book.take(sent)
        self.chunks.done(committed)
        own = self.job.key
        queued = (chunk for key, chunk in queue.chunks if key == own)
        left = [chunk for chunk in sent if chunk not in committed]
        for chunk in self.chunks.lost(left, {*alive, *queued}, time.monotonic()):
            self._resolve(chunk)

    def _resolve(self, chunk: int) -> None:
        """Check the store for chunks that Redis shows neither queued, leased nor committed."""
        if self._found_part(chunk):
            return
        attempts = read_attempts(self.store, chunk)
        self.failures.add(chunk, attempts)
        fate = fate_of(
            chunk,
            attempts,
            self.plan.chunk(chunk).rows,
            self.job.options.max_attempts,
            time.time(),
            random.random(),
            hosts=self._hosts,
            is_unchanged=lambda: self._is_unchanged(chunk),
        )
        if fate.isolated:
            self.chunks.isolated.add(chunk)
        self.fatal = fate.fatal or self.fatal or self._shared_failure()
        if fate.parked is None:
            self.chunks.retry(chunk, time.monotonic() + fate.wait_s)
        else:
            self._park(fate.parked)

    def _is_unchanged(self, chunk: int) -> bool:
        """Whether this controller sees the chunk's input files as they were planned."""
        return all(self._is_as_planned(piece.file) for piece in self.plan.chunk(chunk).pieces)

    def _is_as_planned(self, file: InputFile) -> bool:
        if self.open_store is None:
            return False
        root, name = split_uri(file.uri)
        try:
            store = self.open_store(root)
            now = etag_of(store, name, file.format)
            if now is None or now == (file.size, file.etag):
                return now is not None
            return has_same_bytes(store, name, file, now)
        except (HeadraceError, OSError):  # this host cannot read it: trust the workers
            return False

    def _shared_failure(self) -> str | None:
        """Why no chunk of the job can ever start, if that is known."""
        if self.chunks.chunks(DONE):
            return None
        found = self.failures.shared(self._hosts)
        if found is None:
            return None
        self.cause = found.cause
        return f"no worker can begin: {found.message}"

    def _park(self, record: Parked) -> None:
        data = record.model_dump_json().encode()
        self.store.create(output_layout.parked(record.chunk), data)
        self.chunks.parked(record.chunk)
        log.error(
            "chunk.parked",
            job=self.job.id,
            chunk=record.chunk,
            cause=record.cause,
            error_message=record.message,
        )

    def _found_part(self, chunk: int) -> bool:
        """Whether the chunk has a part; then it is counted and done."""
        if not self._has_part(chunk):
            return False
        self._counts.count([chunk])
        self.chunks.done([chunk])
        return True

    def _read_counters(self) -> None:
        rows, refused, why, trouble = self.client.hmget(
            redis_keys.job(self.job.key), "error_rows", "refused", "refused_why", "trouble"
        )
        self.store_trouble = parse_trouble(trouble, redis_now(self.client)) if trouble else None
        self.error_rows = as_count(rows, self.error_rows)
        if as_count(refused) >= REFUSALS and not self.chunks.chunks(DONE):
            self.fatal = f"no worker can reach the job: {as_text(why or b'')}"

    # -- publishing

    def ready(self) -> list[int]:
        """The chunks that could be sent now, in order; none while the job is stopped."""
        return [] if self.is_stopped else self.chunks.ready(time.monotonic())

    # -- the end

    def recount(self) -> bool:
        """List the parts in full; True when every chunk thought done has its part."""
        gone, found = self.chunks.compare(parts_of(self.store))
        if gone:
            self._counts.count_again(gone, self.chunks.chunks(DONE))
        else:
            self._counts.count(found)
        return not gone

    def receipts(self) -> list[Receipt]:
        """The receipt of every chunk that is done. Raises StorageError."""
        return self.book.read(self.chunks.chunks(DONE))

    def parked(self) -> list[Parked]:
        """The record of every chunk that is parked. Raises StorageError."""
        found = []
        for chunk in self.chunks.chunks(PARKED):
            data = self.store.read(output_layout.parked(chunk))
            if data is not None:
                found.append(parse_parked(data, chunk))
        return found

    def _count_parts(self) -> None:
        """Make the counters match the existing parts; each part is counted once."""
        counted, done = self._counts.counted(), set(self.chunks.chunks(DONE))
        gone = []
        for chunk in sorted(counted - done):  # committed since the listing, or lost since
            if self.chunks.has(chunk) and self._has_part(chunk):
                self.chunks.done([chunk])
            else:
                gone.append(chunk)
        if gone:
            self._counts.count_again(gone, self.chunks.chunks(DONE))
        else:
            self._counts.count(sorted(done - counted))

    def _has_part(self, chunk: int) -> bool:
        return self.store.head(output_layout.part(chunk)) is not None
