"""The fleet of the compose file: from zero workers, through two kills, to a drain."""

from __future__ import annotations

import time

import pytest

from tests.conftest import wait_until
from tests.containers.conftest import ROWS, Composed

pytestmark = pytest.mark.timeout(6_000)

OUTPUT = "s3://headrace/out"
GRACE_S = 55  # the compose file's stop_grace_period

KILL_ONE = """
import os, signal, psutil
workers = [p for p in psutil.process_iter() if "spawn_main" in " ".join(p.cmdline())]
os.kill(workers[0].pid, signal.SIGKILL)
print("killed", workers[0].pid, "of", len(workers))
"""


def test_a_job_from_zero_workers_outlives_kills_and_the_fleet_drains(composed: Composed) -> None:
    engine = composed.engine
    composed.submit(
        "submit", "/corpus", "--output", OUTPUT, "--task", "fake",
        "--task-params", '{"ms_per_row": 20}', "--chunk-rows", "50",
    )  # fmt: skip
    worker = composed.container("worker-cpu")
    committed = lambda: composed.logs("worker-cpu").count("chunk.committed")  # noqa: E731
    wait_until(lambda: committed() >= 3, 180, "a fleet from zero to commit", every_s=1)
    assert "killed" in engine.call("exec", worker, "python", "-c", KILL_ONE)

    before = committed()
    wait_until(lambda: committed() >= before + 3, 120, "the fleet to go on after a kill", every_s=1)
    engine.call("kill", "--signal", "KILL", worker)
    engine.call("start", worker)

    status = lambda: composed.submit("status", OUTPUT)  # noqa: E731
    wait_until(lambda: "finished" in status(), 300, "the job to end", every_s=1)
    told = composed.submit("verify", OUTPUT)
    assert f"{ROWS:,}" in told

    began = time.monotonic()
    engine.call("stop", "--time", str(GRACE_S), worker)
    took = time.monotonic() - began
    assert took < GRACE_S - 5, "it was killed, not drained"
    assert engine.call("inspect", "--format", "{{.State.ExitCode}}", worker).strip() == "0"
    print(f"drained in {took:.1f} s")
