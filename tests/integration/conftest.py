"""What several tests of this floor stand on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_jobs import FakeJob, make_job
from tests.integration.controller_house import House

gc.set_threshold(50_000, 20, 20)  # as in the unit floor, and for its reason


@pytest.fixture
def house(redis_url: str) -> Iterator[House]:
    found = House(redis_url)
    yield found
    found.close()


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return make_job(tmp_path, [f"text {i}" for i in range(200)], chunk_rows=10)
