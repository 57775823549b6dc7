"""Speeds measured by earlier jobs, for the next estimate.

On a fleet they are in Redis, by queue and model; on this machine in a file of the user's cache, by
device, threads and model. Without them the estimate uses a guess from the model's size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import redis

from headrace.coordination.redis_values import as_number
from headrace.process.atomic_file import write_atomically
from headrace.redis_client import RedisClient
from producers.capacity.measured_speed import MEASURED_S
from schemas.names import redis_keys
from schemas.records.job import Job, Spec
from schemas.records.manifest import Manifest
from schemas.records.model_key import speed_name

_KEPT = 200  # chosen: models and shapes one person alternates between


def fleet_speed(client: RedisClient, queue: str, spec: Spec) -> float | None:
    """Tokens per second of one worker of the queue; None where no job has measured it."""
    try:
        found = client.hget(redis_keys.SPEEDS, f"{queue} {speed_name(spec)}")
    except redis.RedisError:
        return None
    speed = as_number(found)
    return speed if speed is not None and speed > 0 else None


def of_this_machine(folder: Path, shape: str, spec: Spec) -> float | None:
    """Tokens per second of one worker of this shape (`cpu × 1`); None where none was measured."""
    return _read(folder).get(f"{shape} {speed_name(spec)}")


def record_speed(folder: Path, shape: str, workers: int, job: Job, manifest: Manifest) -> None:
    """Keep what a finished job says of this machine; a cache that cannot be written costs a guess."""
    began_s = manifest.started_s
    if began_s is None or manifest.state != "finished" or manifest.totals.tokens == 0:
        return
    worker_s = (manifest.finished_s - began_s) * min(workers, manifest.totals.parts)
    if worker_s < MEASURED_S:
        return
    known = _read(folder)
    name = f"{shape} {speed_name(job.spec)}"
    known.pop(name, None)  # the newest stand last
    known[name] = round(manifest.totals.tokens / worker_s, 1)
    with suppress(OSError):
        _write(folder, dict(list(known.items())[-_KEPT:]))


def shape_of(device: str, cores: int, workers: int) -> str:
    """What decides a local worker's speed beside its model: a GPU, or threads."""
    return device if device != "cpu" else f"cpu × {max(1, cores // max(1, workers))}"


def _file(folder: Path) -> Path:
    return folder / "speeds.json"


def _read(folder: Path) -> dict[str, float]:
    try:
        found = json.loads(_file(folder).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {str(k): float(v) for k, v in found.items() if isinstance(v, int | float) and v > 0}


def _write(folder: Path, known: Mapping[str, float]) -> None:
    write_atomically(_file(folder), json.dumps(known, indent=1))
