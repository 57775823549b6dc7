"""A program of one's own prepares, stores and drives a job: values come back, nothing is printed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from headrace.settings import load_settings
from producers.driver.drive import Interrupted, drive_here
from producers.driver.job_end import end_of
from producers.driver.job_setup import prepare_job, store_job
from producers.driver.traced import job_trace
from producers.records.snapshot import Snapshot
from tests.unit.small_job import write_input


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def test_a_job_is_driven_by_a_program_that_has_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a", "b", "c"] * 20, id=["same"] * 60)
    settings = load_settings(
        task="fake", workers=1, id_column="id", task_params={"ms_per_row": 5}, registry=None
    )
    notes: list[str] = []
    seen: list[Snapshot] = []
    with job_trace(settings) as (trace, telemetry):
        prepared = prepare_job(settings, [str(corpus)], str(tmp_path / "out"), 1)
        assert any("same" in warning for warning in prepared.warnings)
        stored = store_job(settings, prepared, trace, 1, None, notes.append)
        assert stored.is_new
        assert end_of(stored.job, stored.store) is None
        asked = threading.Event()
        asked.set()
        with pytest.raises(Interrupted):
            drive_here(stored.job, stored.store, settings, trace, telemetry, seen.append, asked)
        end = drive_here(
            stored.job, stored.store, settings, trace, telemetry, seen.append, threading.Event()
        )
    assert (end.snapshot.state, end.snapshot.ok) == ("finished", 60)
    assert end.report is not None
    assert seen, "progress came as values"
    assert end_of(stored.job, stored.store) is not None
    assert capfd.readouterr() == ("", "")
