"""CI runs every stage, the README's `make test` among them, and ends with the first that fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STAGES = ["dev", "lint", "test", "test-system"]
MAKE = """#!/bin/sh
for target; do :; done
echo "made $target"
[ "$target" != "$BREAKS" ]
"""


def run(folder: Path, breaks: str) -> subprocess.CompletedProcess[str]:
    """`.ci/run` with a `make` that only says what it was asked for, and fails at one target."""
    (folder / "make").write_text(MAKE)
    (folder / "make").chmod(0o755)
    (folder / "tree" / ".ci").mkdir(parents=True)
    script = shutil.copy(ROOT / ".ci" / "run", folder / "tree" / ".ci")
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "BREAKS": breaks}
    return subprocess.run(["bash", script], env=environment, capture_output=True, text=True)


def made(output: str) -> list[str]:
    return re.findall(r"^made (\S+)$", output, re.MULTILINE)


def test_every_stage_runs_and_is_a_target(tmp_path: Path) -> None:
    done = run(tmp_path, breaks="")
    assert done.returncode == 0, done.stderr
    found = [stage for stage in made(done.stdout) if stage != "test-avx2"]
    assert found == STAGES
    assert "##### test-avx2" in done.stdout
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{stage}:", makefile, re.MULTILINE) for stage in made(done.stdout))


@pytest.mark.parametrize("breaks", STAGES)
def test_a_stage_that_fails_is_the_end_of_the_run(tmp_path: Path, breaks: str) -> None:
    done = run(tmp_path, breaks)
    assert done.returncode != 0
    found = [stage for stage in made(done.stdout) if stage != "test-avx2"]
    assert found == STAGES[: STAGES.index(breaks) + 1]
