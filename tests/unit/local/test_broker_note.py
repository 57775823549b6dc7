"""A job driven on this machine is found by the user's other terminals, for as long as it is."""

from __future__ import annotations

from pathlib import Path

from headrace.storage.local import LocalStore
from producers.local.broker_note import advertise_local_broker, find_local_broker
from tests.unit.fake_output import write_fake_output
from tests.unit.report.test_estimate_vs_actual import job_of


def test_the_note_leads_to_the_redis_while_the_job_is_driven_and_no_longer(tmp_path: Path) -> None:
    job = job_of(_store(tmp_path), None)
    socket = tmp_path / "redis.sock"
    socket.touch()
    url = f"redis+socket://{socket}?virtual_host=0"
    assert find_local_broker(tmp_path, job) is None
    with advertise_local_broker(tmp_path, job, url):
        assert find_local_broker(tmp_path, job) == url
        elsewhere = job.model_copy(update={"output": "/elsewhere"})
        assert find_local_broker(tmp_path, elsewhere) is None, "the same job into another output"
    assert find_local_broker(tmp_path, job) is None
    assert [p for p in (tmp_path / "running").rglob("*") if p.is_file()] == []


def test_the_note_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    job = job_of(_store(tmp_path), None)
    with advertise_local_broker(
        tmp_path, job, f"redis+socket://{tmp_path}/gone.sock?virtual_host=0"
    ):
        assert find_local_broker(tmp_path, job) is None


def test_a_folder_that_cannot_be_written_stops_no_job(tmp_path: Path) -> None:
    job = job_of(_store(tmp_path), None)
    (tmp_path / "file").touch()
    with advertise_local_broker(tmp_path / "file", job, "redis+socket:///x"):
        assert find_local_broker(tmp_path / "file", job) is None


def _store(folder: Path) -> LocalStore:
    return write_fake_output(folder / "out", chunks=2, rows=10)
