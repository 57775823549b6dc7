"""`--on-finish`: what it gets, where its output goes, and what is said when it fails."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path

import pytest

from producers.control.notify import run_finish_hook, run_refusal_hook
from producers.records.manifest import build_manifest, parts_of, receipt_of_part
from schemas.errors import InputNotFound
from schemas.records.job import Job
from schemas.records.manifest import Manifest
from tests.unit.small_job import NOW_S, submit, write_input


@pytest.fixture
def ended(tmp_path: Path) -> tuple[Job, Manifest]:
    store, job = submit([write_input(tmp_path / "in.parquet", ["a", "b"])], tmp_path / "out")
    receipts = [receipt_of_part(store, part) for part in parts_of(store)]
    found = [receipt for receipt in receipts if receipt is not None]
    stopped = ("cancelled", "by request")
    return job, build_manifest(
        job, found, [], finished_s=NOW_S + 12.5, versions={}, stopped=stopped
    )


def hook(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def test_a_hook_gets_the_end_of_the_job_and_keeps_out_of_standard_output(
    ended: tuple[Job, Manifest], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job, manifest = ended
    code = f"import sys, shutil; print('hello'); shutil.copyfileobj(sys.stdin, open({str(tmp_path / 'got')!r}, 'w'))"
    run_finish_hook(job, manifest, hook(code))
    assert json.loads((tmp_path / "got").read_text()) == {
        "job": job.id, "output": job.output, "state": "cancelled", "reason": "by request",
        "rows": 0, "ok": 0, "errors": 0, "seconds": 12.5,
    }  # fmt: skip
    assert capfd.readouterr() == ("", "hello\n")


def test_a_refused_job_reaches_the_hook_too(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'got')!r}, 'w').write(os.environ['HEADRACE_FINISHED_REASON'])"
    run_refusal_hook("/out", InputNotFound("nothing at /in"), 1.0, hook(code))
    assert (tmp_path / "got").read_text() == "nothing at /in"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (hook("raise SystemExit(3)"), "exit code 3"),
        ("/no/such/program", "No such file or directory"),
    ],
)
def test_a_hook_that_fails_is_logged_with_its_status(
    target: str, words: str, ended: tuple[Job, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        run_finish_hook(*ended, target)
    (record,) = caplog.records
    assert record.getMessage() == "on_finish.failed"
    assert words in str(vars(record))
    assert "SystemExit" not in str(vars(record)), "the command may hold a secret"
