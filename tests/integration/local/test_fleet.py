"""`headrace run` starts Redis and workers before it plans, and leaves no process behind when that fails."""

from __future__ import annotations

from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.settings import load_settings
from producers.commands import early_start
from producers.commands.early_start import run_from_cold
from producers.local import fleet as local
from producers.local.fleet import LocalStack
from producers.records.job_registry import open_registry
from schemas.errors import HeadraceError
from schemas.names import output_layout
from tests.conftest import wait_until


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_plan_that_fails_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(HeadraceError, match=r"nothing\.parquet"):
        run_from_cold(
            [str(tmp_path / "nothing.parquet")],
            str(tmp_path / "out"),
            {"task": "fake"},
            as_json=True,
        )
    assert children() == before


def test_workers_are_there_before_the_plan_unless_the_output_has_a_job(tmp_path: Path) -> None:
    assert early_start._is_new(str(tmp_path / "out"))
    (tmp_path / "out" / output_layout.JOB).parent.mkdir(parents=True)
    (tmp_path / "out" / output_layout.JOB).write_text("{}")
    assert not early_start._is_new(str(tmp_path / "out"))
    assert not early_start._is_new("s3://bucket/out")


def test_started_twice_is_started_once_and_ended_once(tmp_path: Path) -> None:
    before = children()
    with LocalStack() as here:
        here.start(load_settings(workers=1))
        url, process = here.url, here.fleet.process
        here.start(load_settings(workers=1))
        assert (here.url, here.fleet.process) == (url, process)
        here.fleet.name_log("the-job")
        assert here.fleet.log.name == "workers-the-job.log"
        assert here.fleet.log.exists()
        with here:
            pass
        assert process.poll() is not None
    assert children() == before


def test_a_job_that_ended_starts_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "in.parquet")
    job = ([str(tmp_path / "in.parquet")], str(tmp_path / "out"), {"task": "fake", "workers": 1})
    assert run_from_cold(*job, as_json=True) == 0
    started: list[str] = []
    monkeypatch.setattr(local, "start_workers", lambda settings, url, task: started.append(url))
    assert run_from_cold(*job, as_json=True) == 0
    assert started == []
    (entry,) = open_registry(load_settings()).list()
    assert entry.state == "finished", "a list does not say that it runs"


def test_a_worker_imports_torch_before_there_is_a_message(tmp_path: Path) -> None:
    with LocalStack() as here:
        here.start(load_settings(workers=1, device="cpu"))
        fleet = psutil.Process(here.fleet.process.pid)
        wait_until(lambda: any(map(has_torch, fleet.children(recursive=True))))


def test_a_worker_of_a_task_without_a_model_does_not(tmp_path: Path) -> None:
    with LocalStack() as here:
        here.start(load_settings(workers=1, device="cpu"), "fake")
        fleet = psutil.Process(here.fleet.process.pid)
        wait_until(lambda: "HEADRACE_PRELOAD" in fleet.environ())  # it has become the fleet
        assert fleet.environ()["HEADRACE_PRELOAD"] == "False"


def has_torch(process: psutil.Process) -> bool:
    try:
        return any("libtorch_cpu" in m.path for m in process.memory_maps())
    except psutil.Error:  # it is being born, or has ended
        return False
