"""A local run ends with the exit code of its workers, and asks for no device that is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.settings import load_settings
from producers.capacity.device_hint import guess_device
from producers.commands.early_start import require_answer
from producers.driver.job_setup import require_device
from producers.local.fleet import LocalFleet
from schemas.errors import BrokerError, ConfigError, ExitCode, WorkersEnded


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (31, ExitCode.CRASH_LOOP),
        (3, ExitCode.CONFIG),
        (99, ExitCode.UNEXPECTED),
        (0, ExitCode.UNEXPECTED),
    ],
)
def test_workers_that_end_pass_their_exit_code_on(
    code: int, expected: ExitCode, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    process.wait()
    (tmp_path / "log").write_text("last words")
    with pytest.raises(WorkersEnded, match="last words") as caught:
        LocalFleet(process, tmp_path / "log", 1.0).check()
    assert caught.value.exit_code == expected


def test_a_gpu_that_is_not_here_is_refused_for_a_run() -> None:
    settings = load_settings(device="cuda")
    with pytest.raises(ConfigError, match="--device cuda: this machine has no GPU"):
        require_device(settings, guess_device("cuda", query=lambda: None))
    require_device(settings, guess_device("cuda", query=lambda: "NVIDIA H200, 9.0"))
    require_device(load_settings(device="auto"), guess_device("auto", query=lambda: None))


def test_a_broker_that_does_not_answer_is_refused_before_anything_starts() -> None:
    with pytest.raises(BrokerError):
        require_answer("redis://127.0.0.1:1/0")
