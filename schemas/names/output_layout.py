"""Where things stand in an output. Every name of an object is made here and nowhere else."""

from __future__ import annotations

import re

JOB = "_headrace/job.json"
PLAN = "_headrace/plan.parquet"
REUSE = "_headrace/reuse.arrow"
MANIFEST = "_headrace/manifest.json"
CANCELLED = "_headrace/cancelled"
PAUSED = "_headrace/paused"
SUCCESS = "_SUCCESS"
REPORT = "report.html"

DATA = "data/"
TRACES = "_traces/"
RECEIPTS = "_headrace/receipts/"
ATTEMPTS = "_headrace/attempts/"
PARKED = "_headrace/parked/"
TMP = "_headrace/tmp/"

_PART = re.compile(r"^data/part-(\d{5,})\.parquet$")
_ATTEMPT = re.compile(r"^_headrace/attempts/(\d{5,})-(\d+)\.json$")
_NUMBERED = re.compile(r"/(\d{5,})\.json$")


def part(chunk: int) -> str:
    return f"{DATA}part-{chunk:05d}.parquet"


def receipt(chunk: int) -> str:
    return f"{RECEIPTS}{chunk:05d}.json"


def attempt(chunk: int, number: int) -> str:
    return f"{ATTEMPTS}{chunk:05d}-{number}.json"


def attempts_of(chunk: int) -> str:
    """The prefix of a chunk's attempt records."""
    return f"{ATTEMPTS}{chunk:05d}-"


def parked(chunk: int) -> str:
    return f"{PARKED}{chunk:05d}.json"


def trace(chunk: int, attempt_id: str) -> str:
    return f"{TRACES}part-{chunk:05d}-{attempt_id}.parquet"


def chunk_of_part(name: str) -> int | None:
    """The chunk whose part this is; None for any other name."""
    match = _PART.match(name)
    return int(match[1]) if match else None


def chunk_and_number_of_attempt(name: str) -> tuple[int, int] | None:
    match = _ATTEMPT.match(name)
    return (int(match[1]), int(match[2])) if match else None


def chunk_of_record(name: str) -> int | None:
    """The chunk of a receipt or a parked record."""
    match = _NUMBERED.search(name)
    return int(match[1]) if match else None
