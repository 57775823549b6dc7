"""What several tests of this floor stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_jobs import FakeJob, make_job
from tests.integration.controller_house import House


@pytest.fixture
def house(redis_url: str) -> Iterator[House]:
    found = House(redis_url)
    yield found
    found.close()


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return make_job(tmp_path, [f"text {i}" for i in range(200)], chunk_rows=10)
