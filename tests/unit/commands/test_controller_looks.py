"""Where a controller finds its jobs, and what it says when one of the two places is away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace.settings import load_settings
from producers.commands.controller import outputs_of_jobs
from producers.records.job_registry import open_registry
from schemas.names import redis_keys
from tests.unit.small_job import submit, write_input


class Redis:
    """Knows one job, or does not answer."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        if not self.answers:
            raise redis.ConnectionError
        return {b"0123456789abcdef-1": b"/announced"} if key == redis_keys.JOBS else {}


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_registry_and_a_redis_that_are_away_are_told_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, job = submit([write_input(tmp_path / "in.parquet", ["a"])], tmp_path / "out")
    settings = load_settings(registry=str(tmp_path / "registry"))
    open_registry(settings).add(job)
    here: Any = Redis(answers=True)
    away: Any = Redis(answers=False)
    with caplog.at_level(logging.WARNING):
        assert outputs_of_jobs(settings, here) == {job.output, "/announced"}
        assert events(caplog) == []
        assert outputs_of_jobs(settings, away) == {job.output}
        assert events(caplog) == ["broker.unreachable"]
        caplog.clear()
        (tmp_path / "loop").symlink_to("loop")
        no_store = load_settings(registry=str(tmp_path / "loop"))
        assert outputs_of_jobs(no_store, here) == {"/announced"}
        assert events(caplog) == ["store.unreachable"]
