"""Cancels and pauses a job: a flag in its output, copied to Redis for the workers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Literal

import redis

from headrace.settings import Settings
from headrace.storage.store import Store
from producers.driver.session import broker_if_any, update_registry
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job

Stop = Literal["cancelled", "paused"]

_FLAGS: dict[Stop, str] = {"cancelled": output_layout.CANCELLED, "paused": output_layout.PAUSED}


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of the request to stop a job."""

    had_ended: bool
    """The job had ended before; nothing was done."""
    warnings: tuple[str, ...] = ()


def stop_job(job: Job, store: Store, settings: Settings, state: Stop) -> Stopped:
    """Stop the job after the current batch; committed parts stay. Safe to call twice.

    Raises:
        StorageError: the flag could not be written.
    """
    if store.head(output_layout.MANIFEST) is not None:
        return Stopped(had_ended=True)
    reason = {"reason": f"{state} by request", "at_s": time.time()}
    store.create(_FLAGS[state], json.dumps(reason).encode())
    broker = broker_if_any(settings, job)
    if broker is not None:
        try:
            broker.client.hset(redis_keys.job(job.key), state, "1")
        except redis.RedisError:
            pass  # the controller copies it from the store within seconds
        finally:
            broker.close()
    warning = update_registry(settings, job, state)
    return Stopped(had_ended=False, warnings=() if warning is None else (warning,))
