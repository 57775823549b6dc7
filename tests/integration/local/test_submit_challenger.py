"""`submit --challenger`: two jobs are queued, the second on the drawn rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace.coordination.announced_jobs import announced_jobs
from headrace.output.challenger_record import read_challenger
from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from producers.commands.quality.challenger import read_challenge
from producers.commands.session import open_session
from producers.commands.submit import submit_job
from schemas.errors import ConfigError, ExitCode
from tests.unit.small_job import write_input
from tests.unit.tiny_models import save_model


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def submit(redis_url: str, tmp_path: Path, *, wait: bool = False) -> int:
    corpus = tmp_path / "in.parquet"
    if not corpus.exists():
        write_input(corpus, [f"text {i}" for i in range(500)])
    for name, labels in (("champion", 2), ("candidate", 3)):
        if not (tmp_path / name).exists():
            save_model(tmp_path / name, "bert", "SequenceClassification", num_labels=labels)
    flags = {"broker_url": redis_url, "model": str(tmp_path / "champion")}
    session = open_session(flags, as_json=True)
    challenge = read_challenge(str(tmp_path / "candidate"), "20%", str(tmp_path / "b"))
    return submit_job(
        session, [str(corpus)], str(tmp_path / "a"), wait=wait, on_finish=False, challenge=challenge
    )


def test_both_jobs_are_queued_and_a_second_time_adopted(
    redis_url: str, redis_client: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(redis_url, tmp_path) == ExitCode.OK
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    first, second = (require_job(LocalStore(tmp_path / name)) for name in "ab")
    assert (shown["job"], shown["challenger"]["job"]) == (first.id, second.id)
    assert set(announced_jobs(redis_client)) == {first.key, second.key}
    record = read_challenger(LocalStore(tmp_path / "b"))
    assert record is not None
    assert (record.job, record.rows) == (first.id, second.rows)
    assert 50 < second.rows < 150
    assert second.options.priority == first.options.priority - 1
    assert submit(redis_url, tmp_path) == ExitCode.OK
    again = json.loads(capsys.readouterr().out)
    assert (again["new"], again["challenger"]["new"]) == (False, False)


def test_json_and_wait_have_no_one_object(redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--json or --wait"):
        submit(redis_url, tmp_path, wait=True)
