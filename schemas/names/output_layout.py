"""Where things stand in an output. Every name of an object is made here and nowhere else.

Readers of tables are pointed at an output as a whole: they take `**/*.parquet`, or all files that do
not begin with `_`. So only the rows have such names; plan and traces are Parquet under other names.
"""

from __future__ import annotations

import re

JOB = "_headrace/job.json"
PLAN = "_headrace/plan.chunks"
OLD_PLAN = "_headrace/plan.parquet"
"""Its name in outputs of before; still read."""
REUSE = "_headrace/reuse.arrow"
MANIFEST = "_headrace/manifest.json"
CANCELLED = "_headrace/cancelled"
PAUSED = "_headrace/paused"
FOLLOWER = "_headrace/follower.json"
SUCCESS = "_SUCCESS"
REPORT = "_report.html"

DATA = "data/"
TRACES = "_traces/"
RECEIPTS = "_headrace/receipts/"
PROFILES = "_headrace/profiles/"
PROFILE = "_headrace/whole.profile"
"""Of all chunks together, kept by the first who needed it."""
VOCABULARY = "_headrace/vocabulary.tokens"
ATTEMPTS = "_headrace/attempts/"
PARKED = "_headrace/parked/"
SAMPLE = "_headrace/sample.rows"
"""The input of a challenger: the rows of another job's corpus that were drawn for it, as Parquet."""
CHALLENGER = "_headrace/challenger.json"
TMP = "_headrace/tmp/"
TABLES = "_headrace/input/"
"""Inputs that were tables in a program's memory."""

CHECKPOINTS = "checkpoints/"
MODEL = "model/"
"""The model of a training, once it is whole."""
MODEL_FILES = "_headrace/model.json"
"""Which attempt's files are the model."""
SWEEP = "sweep.json"
"""Beside the outputs of a sweep's points: their settings and scores."""
TRAINING_RESULT = "model/training.json"
TENSORBOARD = "tensorboard/"

_PART = re.compile(r"^data/part-(\d{5,})\.parquet$")
_ATTEMPT = re.compile(r"^_headrace/attempts/(\d{5,})-(\d+)\.json$")
_CHECKPOINT = re.compile(r"^checkpoints/(\d{6,})\.json$")
_NUMBERED = re.compile(r"/(\d{5,})\.json$")


def part(chunk: int) -> str:
    return f"{DATA}part-{chunk:05d}.parquet"


def receipt(chunk: int) -> str:
    return f"{RECEIPTS}{chunk:05d}.json"


def profile(chunk: int) -> str:
    return f"{PROFILES}{chunk:05d}.profile"


def attempt(chunk: int, number: int) -> str:
    return f"{ATTEMPTS}{chunk:05d}-{number}.json"


def attempts_of(chunk: int) -> str:
    """The prefix of a chunk's attempt records."""
    return f"{ATTEMPTS}{chunk:05d}-"


def parked(chunk: int) -> str:
    return f"{PARKED}{chunk:05d}.json"


def table(digest: str) -> str:
    """An input that was a table in memory; the digest is of its file."""
    return f"{TABLES}{digest}.table"


def checkpoint(step: int) -> str:
    """The commit of a training's state after so many steps."""
    return f"{CHECKPOINTS}{step:06d}.json"


def checkpoint_folder(attempt_id: str, step: int) -> str:
    """The prefix of its files, which the attempt writes before the commit."""
    return f"{CHECKPOINTS}{attempt_id}/{step:06d}/"


def model_folder(attempt_id: str) -> str:
    """The prefix of the files of the model that this attempt has trained."""
    return f"_headrace/models/{attempt_id}/"


def step_of_checkpoint(name: str) -> int | None:
    """The step whose commit this is; None for any other name."""
    match = _CHECKPOINT.match(name)
    return int(match[1]) if match else None


def trace(chunk: int, attempt_id: str) -> str:
    return f"{traces_of(chunk)}{attempt_id}.spans"


def traces_of(chunk: int) -> str:
    """The prefix of a chunk's traces, whatever their suffix (`.parquet` in outputs of before)."""
    return f"{TRACES}part-{chunk:05d}-"


def job_trace(run: str) -> str:
    """The spans of a producer's run."""
    return f"{TRACES}job-{run}.spans"


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
