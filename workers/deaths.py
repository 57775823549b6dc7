"""A parent that saw its child die says so at once, instead of waiting for the lease to run out."""

from __future__ import annotations

import json
import time
from typing import Any

import redis

from schemas import keys, layout
from schemas.attempts import attempt_of_death, record_attempt
from schemas.errors import HeadraceError, error_type_of
from schemas.leases import LeaseBook
from schemas.message import ScoreChunk, parse_message
from schemas.telemetry.logs import get_logger
from workers.work import WorkBook

log = get_logger(__name__)


def bury(client: Any, worker: str, body: Any, jobs: WorkBook, lease_s: float) -> int:
    """Record and free what the dead child of this worker held; returns the number of chunks.

    What cannot be done here (Redis or the store is away) the controller does when the lease ends.
    """
    try:
        message = parse_message(body)
        hand = _hand(client, worker)
        book = LeaseBook(client, message.job, lease_s)
        marks = book.marks()
        chunks = [c for c in message.chunks if c in marks and _is_of(marks[c].worker, marks[c].attempt, worker, hand)]
        for chunk in chunks:
            _record(message, chunk, marks[chunk], worker, jobs)
            book.release(chunk, marks[chunk].attempt)
        client.hset(keys.worker(worker), "hand", "")
        return len(chunks)
    except (HeadraceError, redis.RedisError, ValueError) as error:
        log.warning("worker.lost", worker=worker, error_type=error_type_of(error))
        return 0


def _hand(client: Any, worker: str) -> set[str]:
    """The attempts the worker said it holds."""
    data = client.hget(keys.worker(worker), "hand")
    return set(json.loads(data)["chunks"].values()) if data else set()


def _is_of(marked: str, attempt: str, worker: str, hand: set[str]) -> bool:
    return marked == worker or attempt in hand


def _record(message: ScoreChunk, chunk: int, mark: Any, worker: str, jobs: WorkBook) -> None:
    work = jobs.find(message)
    if work.store.head(layout.part(chunk)) is not None:
        return
    attempt = attempt_of_death(chunk, mark, time.time(), f"parent of {worker}")
    if attempt is not None:
        record_attempt(work.store, attempt)
        log.warning("attempt.recorded", job=message.job, chunk=chunk, cause=attempt.cause, worker=worker)
