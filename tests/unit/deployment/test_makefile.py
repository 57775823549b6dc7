"""The Makefile names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def named_tests(makefile: str) -> list[str]:
    """The files and folders of tests in its commands, with each `$(addprefix …)` expanded."""
    joined = makefile.replace("\\\n", " ")
    expanded = re.sub(
        r"\$\(addprefix ([^,]+),([^)]*)\)",
        lambda m: " ".join(m[1] + name for name in m[2].split()),
        joined,
    )
    return sorted(set(re.findall(r"(?<![\w/])tests/[\w./]+", expanded)))


@pytest.mark.parametrize("path", named_tests((ROOT / "Makefile").read_text()))
def test_the_tests_that_a_target_runs_are_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_names_behind_a_prefix_are_found() -> None:
    assert named_tests("\tpytest $(addprefix tests/unit/,a.py \\\n\t\tb/c) tests/gpu\n") == [
        "tests/gpu", "tests/unit/a.py", "tests/unit/b/c",
    ]  # fmt: skip
