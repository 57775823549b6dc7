"""The registry leads from a job's id to its output, and back after everything was forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.storage.local import LocalStore
from producers.records.job_registry import Registry, open_registry
from schemas.errors import JobNotFound
from schemas.records.job import Job
from tests.unit.small_job import fake_settings, submit, write_input


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(fake_settings(registry=str(tmp_path / "registry")))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    path = write_input(tmp_path / "in.parquet", ["x"])
    made = [submit([path], tmp_path / name)[1] for name in ("a", "b")]
    made.append(submit([path], tmp_path / "c", max_length=9)[1])
    return [job.model_copy(update={"submitted_s": float(i)}) for i, job in enumerate(made)]


def test_jobs_are_found_by_id_beginning_or_output(registry: Registry, jobs: list[Job]) -> None:
    entry = registry.add(jobs[2])
    assert registry.find(jobs[2].id) == entry
    assert registry.find(jobs[2].id[:6]) == entry
    assert registry.find(jobs[2].output) == entry
    assert registry.find(jobs[2].output + "/") == entry
    assert registry.find("ffff") is None
    assert registry.find("/nowhere") is None


def test_one_id_in_two_outputs_is_not_one_job(registry: Registry, jobs: list[Job]) -> None:
    a, b, _ = [registry.add(job) for job in jobs]
    assert a.id == b.id
    with pytest.raises(JobNotFound, match="name its output") as caught:
        registry.find(a.id)
    assert a.output in str(caught.value)
    assert registry.find(b.output) == b


def test_the_list_is_latest_first_and_running_earliest_first(
    registry: Registry, jobs: list[Job]
) -> None:
    assert registry.list() == []
    for job in jobs:
        registry.add(job)
    assert [entry.submitted_s for entry in registry.list()] == [2.0, 1.0, 0.0]
    registry.update(jobs[1].output, "finished")
    assert [entry.submitted_s for entry in registry.running()] == [0.0, 2.0]


def test_a_state_is_kept_and_a_job_added_again_runs(registry: Registry, jobs: list[Job]) -> None:
    registry.add(jobs[0])
    assert registry.update(jobs[0].id, "failed").state == "failed"
    assert registry.list()[0].ended
    assert not registry.add(jobs[0]).ended
    registry.forget(jobs[0].output)
    assert registry.list() == []
    with pytest.raises(JobNotFound):
        registry.update(jobs[0].output, "failed")


def test_what_others_left_in_the_folder_is_not_an_entry(
    registry: Registry, jobs: list[Job], tmp_path: Path
) -> None:
    registry.add(jobs[0])
    store = LocalStore(tmp_path / "registry")
    for name, data in (("jobs/x.json", b"{"), ("jobs/y.json", b"{}"), ("notes.txt", b"hello")):
        store.create(name, data)
    assert [entry.id for entry in registry.list()] == [jobs[0].id]


def test_the_default_registry_is_in_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    open_registry(fake_settings(allowed_prefixes="/nowhere")).add(jobs[0])
    assert list((tmp_path / "state/headrace/registry/jobs").glob("*.json"))
