"""`import headrace` in real programs: local runs, a fleet's Redis, and scripts of users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import headrace
from producers.records.snapshot import Snapshot
from tests.unit.small_job import write_input


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def test_a_table_is_scored_and_read_and_scored_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"id": [f"r{i}" for i in range(50)], "text": ["some text"] * 50})
    seen: list[Snapshot] = []
    out = tmp_path / "out"
    job = headrace.run(
        table, out, task="fake", id_column="id", workers=1, progress=seen.append,
        task_params={"ms_per_row": 10},
    )  # fmt: skip
    assert seen
    assert headrace.open(out).to_arrow().count_rows() == 50
    assert headrace.open(out).traces().count_rows() > 0
    assert job.verify().verdict == "verified"
    parts = {p.name: p.stat().st_mtime_ns for p in (out / "data").iterdir()}
    again = headrace.run(
        table.slice(0), out, task="fake", id_column="id", workers=1, progress=False,
        task_params={"ms_per_row": 10},
    )  # fmt: skip
    assert again.id == job.id
    assert {p.name: p.stat().st_mtime_ns for p in (out / "data").iterdir()} == parts
    assert capfd.readouterr() == ("", ""), "a library prints nothing by itself"


def test_a_job_of_a_fleet_is_submitted_once_watched_and_cancelled(
    tmp_path: Path, redis_url: str
) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a"] * 20)
    with pytest.warns(UserWarning, match="no controller is running"):
        job = headrace.submit(corpus, tmp_path / "out", task="fake", broker_url=redis_url)
    assert job.status().state == "running"
    with pytest.raises(TimeoutError, match="did not end in 1 s; it continues"):
        job.wait(progress=False, timeout_s=1)
    with pytest.warns(UserWarning, match="no controller"):  # ours followed one job only
        again = headrace.submit(corpus, tmp_path / "out", task="fake", broker_url=redis_url)
    assert again.id == job.id
    job.cancel()
    with pytest.raises(headrace.JobCancelled):
        job.wait(progress=False)
    with pytest.raises(headrace.JobCancelled, match="headrace resume continues it"):
        headrace.submit(corpus, tmp_path / "out", task="fake", broker_url=redis_url)


def test_submit_needs_a_broker(tmp_path: Path) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a"])
    with pytest.raises(headrace.ConfigError, match="--broker URL"):
        headrace.submit(corpus, tmp_path / "out", task="fake")
    assert not (tmp_path / "out").exists()


SCRIPT = """
import multiprocessing
multiprocessing.set_start_method("spawn")
import headrace
job = headrace.run("in.parquet", "out", task="fake", workers=1, progress=False)
print(job.status().state)
"""


def test_a_script_needs_no_guard_and_may_have_folders_of_our_names(tmp_path: Path) -> None:
    write_input(tmp_path / "in.parquet", ["a", "b"])
    for name in ("schemas", "workers", "queue"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the user')")
    (tmp_path / "job.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "job.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr
