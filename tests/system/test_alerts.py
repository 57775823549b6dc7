"""The alert rules, asked by Prometheus' own tool: each fires where it should and only there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import program

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=["configuration", "alerts"],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
