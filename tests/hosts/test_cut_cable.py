"""Packets that disappear between a worker's host and Redis: in both directions, in one, in part."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from headrace.coordination.leases import LeaseBook
from tests.acceptance.harness.fleet import Fleet, attempts, lines, parts, pass_time
from tests.fake_jobs import FakeJob, make_job
from tests.hosts.conftest import Cable

pytestmark = pytest.mark.timeout(300)

CUT_S = 20
"""Five leases."""
LOSSES = {
    "both": {"coming": 1.0, "going": 1.0},
    "only from Redis": {"coming": 1.0},
    "only to Redis": {"going": 1.0},
    "30 % from Redis": {"coming": 0.3},
    "30 % to Redis, 5 % back": {"coming": 0.05, "going": 0.3},
}


def started(fleet: Fleet, folder: Path, cable: Cable, chunks: int) -> FakeJob:
    """A job in its middle, with a worker at each end of the cable."""
    job = make_job(
        folder, lines(30 * chunks), chunk_rows=30, params={"ms_per_row": 10}, batch_tokens=300
    )
    fleet.start(1)
    fleet.start(1, inside=cable.inside)
    fleet.follow(job)
    fleet.wait(lambda: all(w.logged("chunk.committed") for w in fleet.workers), 60, "both to work")
    return job


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_job_outlives_packets_that_disappear(
    fleet: Fleet, cable: Cable, tmp_path: Path, loss: dict[str, float]
) -> None:
    job = started(fleet, tmp_path / "job", cable, 150)
    here, there = fleet.workers
    before = len(parts(job))
    cable.drop(**loss)
    pass_time(fleet, CUT_S)
    meanwhile = len(parts(job)) - before
    assert meanwhile > 0, "the other end goes on"
    cable.mend()
    began, done = time.monotonic(), there.logged("chunk.committed")
    fleet.wait(lambda: there.logged("chunk.committed") > done or job.manifest(), 60, "it to go on")
    back_s = time.monotonic() - began
    manifest = fleet.until_ended(job, 120)
    job.check()
    assert (manifest.state, manifest.parked) == ("finished", ())
    print(
        f"\n{loss}: {meanwhile} of {job.job.chunks} chunks during {CUT_S} s; its end back after "
        f"{back_s:.1f} s; {sum(map(len, attempts(job).values()))} attempts recorded, "
        f"{here.logged('chunk.committed')} and {there.logged('chunk.committed')} committed"
    )


def test_what_a_host_held_goes_to_the_other_and_its_late_part_doubles_nothing(
    fleet: Fleet, cable: Cable, tmp_path: Path
) -> None:
    job = started(fleet, tmp_path / "job", cable, 60)
    cable.cut()
    manifest = fleet.until_ended(job, 120)  # never mended: the other worker does the rest
    job.check()
    assert (manifest.state, manifest.parked) == ("finished", ())
    cable.mend()
    there = fleet.workers[1]
    fleet.wait(lambda: LeaseBook(fleet.client, job.job.key, 4.0).marks() == {}, 60, "no mark left")
    assert there.is_alive
    assert there.starts == 1, "a cut is no reason to end"
    job.check()
