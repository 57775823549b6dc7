"""A mounted folder that hangs on one of two hosts: reads or writes there never return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.queue.embedded_redis import EmbeddedRedis
from tests.acceptance.harness.fleet import Fleet, attempts, lines
from tests.fake_jobs import make_job
from tests.hosts.conftest import Mount

pytestmark = pytest.mark.timeout(300)

LIMIT_S = 2
"""In place of ten minutes."""


@pytest.mark.parametrize("which", ["input", "output"])
def test_the_chunks_of_a_host_whose_mount_hangs_go_to_another(
    tmp_path: Path, mount: Callable[[Path], Mount], which: str
) -> None:
    job = make_job(
        tmp_path / "input", lines(1_200), chunk_rows=30, params={"ms_per_row": 10},
        output=str(tmp_path / "output"), batch_tokens=300,
    )  # fmt: skip
    hanging = mount(tmp_path / which)
    with EmbeddedRedis(tmp_path / "redis") as redis:
        fleet = Fleet(tmp_path, redis, {"batch_timeout_s": str(LIMIT_S), "lease_s": "4"})
        try:
            fleet.start(1)
            fleet.start(1, inside=hanging.inside)
            fleet.follow(job)
            well, sick = fleet.workers
            fleet.wait(lambda: all(w.logged("chunk.committed") for w in (well, sick)), 60, "both")
            hanging.hang()
            manifest = fleet.until_ended(job, 120)
            job.check()
            assert (manifest.state, manifest.parked) == ("finished", ())
            assert sick.logged("disk.hangs") >= 1
            seen = [a for found in attempts(job).values() for a in found]
            print(f"\n{which}: {[(a.cause, a.worker, a.message) for a in seen]}")
            assert {a.cause for a in seen} <= {"timeout"}
        finally:
            hanging.answer()
            fleet.close()
