"""What another terminal sees of a job whose Redis was not named to it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from headrace.settings import state_folder
from headrace.storage.local import LocalStore
from producers.commands.session import open_session
from producers.commands.status import show_status, watch_job
from producers.local.broker_note import advertise_local_broker
from schemas.names import output_layout, redis_keys
from schemas.records.job import Job
from schemas.records.manifest import parse_manifest
from tests.unit.fake_output import write_fake_output
from tests.unit.report.test_estimate_vs_actual import job_of


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """An output that has not ended: four chunks of ten rows, all with a part."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HEADRACE_BROKER_URL", raising=False)
    found = write_fake_output(tmp_path / "out", chunks=4, rows=10)
    found.delete(output_layout.MANIFEST)
    found.delete(output_layout.SUCCESS)
    return found


def status(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert show_status(open_session({}, as_json=True), store.uri) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_a_run_on_this_machine_is_seen_with_its_workers_and_rows_on_their_way(
    store: LocalStore, redis_client: redis.Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(store, None)
    redis_client.hset(
        redis_keys.job(job.key), mapping={"epoch": "c", "done_rows": 20, "done_chunks": 2}
    )
    redis_client.hset(redis_keys.live(job.key), "a", json.dumps({"rows": 7}))
    redis_client.zadd(redis_keys.WORKERS, {"w-0": time.time()})
    with advertise_local_broker(state_folder(), job, redis_url):
        told = status(store, capsys)
    assert (told["reason"], told["rows_done"], told["rows_live"]) == ("", 20, 7)
    assert told["workers"] == 1


def test_without_anybody_to_ask_the_files_tell_and_it_is_said(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    told = status(store, capsys)
    assert told["reason"] == "read from the files alone; no Redis was given"
    assert (told["state"], told["rows_done"], told["workers"]) == ("running", 40, 0)


def test_a_job_is_watched_to_its_end_by_its_files_alone(
    store: LocalStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from producers.driver import drive

    finished = write_fake_output(tmp_path / "copy", chunks=4, rows=10).read(output_layout.MANIFEST)
    monkeypatch.setattr(drive, "FILES_S", 0.01)
    looks = 0

    def look(store_: LocalStore, job: Job, client: object) -> object:
        nonlocal looks
        looks += 1
        assert client is None
        if looks == 3:
            store.replace(output_layout.MANIFEST, finished or b"")
        return follow_snapshot(store_, job, None)

    follow_snapshot = drive.take_snapshot
    monkeypatch.setattr(drive, "take_snapshot", look)
    assert watch_job(open_session({}), store.uri) == 0
    told = capsys.readouterr()
    assert "watching the files of the output" in told.err
    assert "40 of 40" in told.out
    assert parse_manifest(finished or b"", "there").state == "finished"


def test_a_redis_that_was_named_and_does_not_answer_is_said_to_be_down(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    session = open_session({"broker_url": "redis://127.0.0.1:1/0"}, as_json=True)
    assert show_status(session, store.uri) == 0
    assert json.loads(capsys.readouterr().out)["reason"].startswith("Redis does not answer")
