"""A worker's runtime and a job, for tests of the handler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from headrace.queue.celery_config import make_sender
from headrace.queue.redis_connection import celery_url, connect
from headrace.settings import load_settings
from headrace.telemetry.provider import Telemetry
from schemas.names import redis_keys
from tests.fake_jobs import FakeJob, make_job
from tests.integration.execution.one_message import Steps
from workers.execution.presence import Identity
from workers.execution.runtime import Runtime


@pytest.fixture
def runtime(redis_url: str, steps: Steps) -> Iterator[Runtime]:
    settings = load_settings(broker_url=redis_url, grace_s=5)
    client = connect(redis_url, name="test-worker")
    sender = make_sender(celery_url(redis_url))
    yield Runtime(settings, Identity("w1", "cpu", 1), client, Telemetry(), sender, steps.append)
    sender.close()
    client.close()


@pytest.fixture
def steps() -> Steps:
    """The named steps that were reached."""
    return []


@pytest.fixture
def job(tmp_path: Path, redis_client: redis.Redis) -> FakeJob:
    found = make_job(tmp_path, [f"text {i}" for i in range(300)], chunk_rows=100)
    redis_client.hset(redis_keys.job(found.job.key), "epoch", "test")  # as a controller leaves it
    return found
