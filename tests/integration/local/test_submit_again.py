"""`submit` of a job that is in its output already: it continues, or says how."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.settings import load_settings
from headrace.storage.open import open_store
from producers.commands.cancel import cancel_job
from producers.commands.session import Session, open_session
from producers.commands.submit import submit_job
from producers.records.job_registry import open_registry
from schemas.errors import ExitCode
from schemas.names import output_layout
from tests.unit.small_job import write_input


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def test_a_cancelled_job_that_is_submitted_again_says_how_to_continue(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a", "b"])
    output = str(tmp_path / "my out")

    def session() -> Session:
        return open_session({"broker_url": redis_url, "task": "fake"})

    def submit() -> int:
        return submit_job(session(), [str(corpus)], output, wait=False, on_finish=False)

    assert submit() == ExitCode.OK
    assert submit() == ExitCode.OK, "it runs, and is adopted"
    cancel_job(session(), output)
    capsys.readouterr()
    assert submit() == ExitCode.JOB_CANCELLED
    assert (
        f"this job is cancelled; continue with: headrace resume '{output}'"
        in capsys.readouterr().err
    )
    (entry,) = open_registry(load_settings()).list()
    assert entry.state == "cancelled"
    open_store(output, load_settings()).delete(output_layout.CANCELLED)
    assert submit() == ExitCode.OK
