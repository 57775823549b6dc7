"""Several jobs in a contestant's process, and what is left when one of them ends it."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.gpu.device_time import DeviceClock
from benchmarks.gpu.matrix import Matrix
from benchmarks.side_by_side.job import Job
from benchmarks.side_by_side.processes import TAG, Asked, Told, run_jobs


def _python(folder: Path, body: str) -> str:
    """A program that is called as `python -m benchmarks.side_by_side.contestants NAME [--until S] JOB…`."""
    script = folder / "python"
    script.write_text("#!/usr/bin/env bash\n" + body)
    script.chmod(0o755)
    return str(script)


def _say(job: int, **what: object) -> str:
    return f"echo '{TAG}{json.dumps({'job': job, **what})}'\n"


JOBS = [Job(f"corpus-{n}", "m", "o", 1) for n in range(3)]
DONE = {"outcome": {"seconds": 1.0}}


def test_a_job_that_ends_its_process_takes_no_other_with_it(tmp_path: Path) -> None:
    body = (
        f"if [ $# = 6 ]; then\n{_say(0)}{_say(0, **DONE)}echo noise\n{_say(1)}"
        f"echo 'no memory' >&2; exit 9\nfi\n{_say(0)}{_say(0, **DONE)}"
    )
    found = list(run_jobs("headrace", JOBS, Asked(_python(tmp_path, body))))
    assert [told.job for told in found] == [0, 1, 2]
    assert found[0].outcome == found[2].outcome == {"seconds": 1.0}
    assert found[1].failed == "ended with 9: no memory\n"


def test_jobs_after_an_error_that_spoils_the_process_are_done_in_a_new_one(tmp_path: Path) -> None:
    body = (
        f"if [ $# = 6 ]; then\n{_say(0)}{_say(0, failed='device')}exit 1\nfi\n"
        f"{_say(0)}{_say(0, **DONE)}{_say(1)}{_say(1, **DONE)}"
    )
    found = list(run_jobs("headrace", JOBS, Asked(_python(tmp_path, body))))
    assert [(told.job, told.failed) for told in found] == [(0, "device"), (1, ""), (2, "")]


def test_a_contestant_that_cannot_begin_is_tried_twice(tmp_path: Path) -> None:
    body = f"echo x >> {tmp_path}/tries; echo 'no module' >&2; exit 1"
    found = list(run_jobs("headrace", JOBS, Asked(_python(tmp_path, body))))
    assert found == [Told(n, failed="ended with 1: no module\n") for n in range(3)]
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_after_the_deadline_nothing_begins_and_what_hangs_is_ended(tmp_path: Path) -> None:
    until = time.time() - 1
    assert list(run_jobs("headrace", JOBS, Asked(until_s=until))) == []
    python = _python(tmp_path, f"{_say(0)}{_say(0, **DONE)}{_say(1)}exec tail -f /dev/null")
    found = list(run_jobs("headrace", JOBS, Asked(python, limit_s=1.0, until_s=time.time() + 0.2)))
    assert [told.job for told in found] == [0, 1]
    assert found[1].failed.startswith("ran out of time")


def test_a_real_contestant_tells_of_each_job(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]}), tmp_path / "c.parquet")
    good = Job(str(tmp_path / "c.parquet"), "m", str(tmp_path / "o.parquet"), 1)
    bad = Job(str(tmp_path / "none.parquet"), "m", str(tmp_path / "o.parquet"), 1)
    found = list(run_jobs("parquet", [good, bad, good], Asked()))
    assert [told.job for told in found] == [0, 1, 2]
    assert found[0].outcome is not None
    assert found[0].outcome["rows"] == 2
    assert found[1].failed.startswith("FileNotFoundError")
    assert found[2].outcome is not None


def test_after_its_deadline_the_matrix_begins_no_contestant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = Namespace(rounds=2, only=["headrace", "sorted-loop"])
    Matrix([], args, tmp_path / "m.json", {}, until_s=time.time() - 1).run()
    assert "deadline: headrace of round 1 and what follows are left out" in capsys.readouterr().err


class _Task:
    def forward(self, batch: int) -> int:
        return batch + 1


def test_on_a_cpu_the_caller_is_the_device() -> None:
    task, clock = _Task(), DeviceClock("cpu")
    began = time.perf_counter()
    with clock.watching(task):
        assert task.forward(1) == 2
    timed = clock.busy_s()
    assert 0 < timed <= time.perf_counter() - began
    assert task.forward(1) == 2
    assert clock.busy_s() == timed, "nobody watches any more"
