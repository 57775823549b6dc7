"""The images by themselves: what they hold, whom they run as, a whole job in one of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.containers.conftest import IMAGES, ROWS, Built, write_corpus
from tests.containers.engine import Engine
from tests.unit.tiny_models import save_model

pytestmark = pytest.mark.timeout(6_000)

LARGEST_MB = {"producer": 900, "worker-cpu": 1_300, "headrace": 1_500}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_as_its_user_and_is_not_larger_than_it_was(
    engine: Engine, built: Built, name: str
) -> None:
    size = engine.size_mb(built(name))
    print(f"{built(name)}: {size} MB")
    assert size < LARGEST_MB[name]
    run = ("run", "--rm", "--read-only", "--network", "none", "--entrypoint")
    entry = "headrace-worker" if name == "worker-cpu" else "headrace"
    assert "0.1.0" in engine.call(*run, entry, built(name), "--version")
    told = engine.call(*run, "id", built(name), "-u")
    assert told.splitlines()[-1] == "10001"  # podman without systemd says something before it


def test_the_producers_image_draws_reports_and_has_no_torch(engine: Engine, built: Built) -> None:
    program = (
        "import matplotlib, importlib.util as u; assert not u.find_spec('torch'); print('drawn')"
    )
    told = engine.call("run", "--rm", "--entrypoint", "python", built("producer"), "-c", program)
    assert "drawn" in told


@pytest.mark.parametrize("more", [(), ("--dtype", "int8")], ids=["float32", "int8"])
def test_one_image_runs_a_whole_job_for_any_user_without_a_network(
    engine: Engine, built: Built, tmp_path: Path, more: tuple[str, ...]
) -> None:
    write_corpus(tmp_path / "reviews.parquet")
    save_model(tmp_path / "model", "bert", "SequenceClassification")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 4321, 4321) if os.geteuid() == 0 else None
    user = "4321:4321" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
    run = (
        "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp",
        "--tmpfs", "/home/headrace:mode=1777", "--user", user, "-v", f"{tmp_path}:/work",
        built("headrace"),
    )  # fmt: skip
    job = ("run", "reviews.parquet", "-o", "scored", "--model", "model", "--json")
    told = engine.call(*run, *job, "--task", "text-classification", *more, limit_s=600)
    assert json.loads(told[told.index("{") :])["state"] == "finished"
    assert (tmp_path / "scored" / "_report.html").stat().st_size > 50_000
    rows = pq.read_table(tmp_path / "scored" / "data")
    assert rows.num_rows == ROWS
    assert set(rows["status"].to_pylist()) == {"ok"}
    engine.call(*run, "verify", "scored")
