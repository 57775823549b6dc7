"""The steps at which a test may kill are those that the code announces, no more and no fewer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from workers.execution.fault_injection import CHUNK_STEPS, TRAINING_STEPS, fault_hook

WORKERS = Path(__file__).parents[3] / "workers"


def announced(room: str) -> set[str]:
    """The steps that a room's code calls the fault hook with."""
    source = "".join(path.read_text() for path in (WORKERS / room).glob("*.py"))
    return {
        step
        for call in re.findall(r"\bfault\(([^)\n]*)\)|_fault\(([^)\n]*)\)", source)
        for step in re.findall(r'"(\w+)"', "".join(call))
    }


def test_the_steps_of_a_chunk_and_of_a_training_are_those_that_the_code_announces() -> None:
    assert announced("execution") == set(CHUNK_STEPS)
    assert announced("training") - set(CHUNK_STEPS) == set(TRAINING_STEPS)


@pytest.mark.parametrize("fault", ["kill", "kill:nowhere:1", "kill:read:often", "stop:read:1"])
def test_a_fault_that_no_code_announces_is_refused(fault: str) -> None:
    with pytest.raises(ConfigError, match="kill:STEP:N"):
        fault_hook(fault)
