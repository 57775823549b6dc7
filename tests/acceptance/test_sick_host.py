"""A host that fails where others do not, with real workers: its failures end nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.coordination.excluded_hosts import read_excluded
from tests.acceptance.conftest import MakeFleet, Say, Scale
from tests.acceptance.harness.fleet import lines
from tests.fake_jobs import make_job

HERE = Path("/proc/self/cwd")
"""Each process sees its own folder under this name, as each host sees its own mount."""


def test_6_a_host_whose_mount_is_empty_ends_no_job_and_gets_no_more_work(
    make_fleet: MakeFleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: Scale,
    seed: int,
    say: Say,
) -> None:
    rng = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    chunks = scale.of(40, 200)
    job = make_job(
        HERE,
        lines(10 * chunks, seed),
        chunk_rows=10,
        output=str(tmp_path / "out"),
        params={"ms_per_row": rng.choice((2, 5))},
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    fleet = make_fleet()
    order = ["well", "well", "sick"]
    rng.shuffle(order)
    for kind in order:
        fleet.start(1, folder=empty if kind == "sick" else None)
    fleet.until_ready()
    fleet.follow(job)
    excluded: set[str] = set()
    ended: Callable[[], object] = lambda: (  # noqa: E731
        excluded.update(read_excluded(fleet.client)) or job.job.key in fleet.controller.ended
    )
    fleet.wait(ended, 120, "the end of the job")
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.totals.ok, manifest.parked) == ("finished", 10 * chunks, ())
    job.check()
    sick = fleet.workers[order.index("sick")]
    assert excluded == {sick.name}
    fleet.wait(lambda: sick.logged("worker.excluded"), 20, "the sick worker to see it")
    say(
        "6",
        f"seed {seed}: {chunks} chunks, one of three hosts sees no input: finished, all rows ok, "
        f"{sick.logged('chunk.failed')} attempts failed there",
    )
