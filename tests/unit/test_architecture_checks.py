"""What the tests of the house must notice: each check finds the fault that it is for."""

from __future__ import annotations

import pytest

from tests.unit.import_graph import (
    ROOT,
    imports_of,
)
from tests.unit.test_architecture import (
    backward,
    environment_reads,
    paid_too_early,
    print_calls,
    prints,
)

PRODUCER = ROOT / "producers" / "sub" / "made_up.py"


@pytest.mark.parametrize(
    "source",
    [
        "import workers.engine",
        "from workers import fleet",
        "def late():\n    from workers.cli import main",
        "if TYPE_CHECKING:\n    import workers",
        "try:\n    import tests.conftest\nexcept ImportError:\n    pass",
        "from ...workers import fleet",
    ],
)
def test_an_arrow_back_is_seen_wherever_it_hides(source: str) -> None:
    assert [backward(found) for found in imports_of(PRODUCER, source)] == [True]


def test_an_arrow_that_points_onward_is_fine() -> None:
    source = "import schemas.errors\nfrom producers import cli\nfrom . import near\nimport os"
    assert not any(backward(found) for found in imports_of(PRODUCER, source))


@pytest.mark.parametrize(
    ("source", "early"),
    [
        ("import torch", True),
        ("class A:\n    from torch import nn", True),
        ("try:\n    import transformers.utils\nfinally:\n    pass", True),
        ("def use():\n    import torch", False),
        ("if TYPE_CHECKING:\n    import celery", False),
    ],
)
def test_a_heavy_import_counts_only_when_the_file_runs_it(source: str, early: bool) -> None:
    assert [paid_too_early(found) for found in imports_of(PRODUCER, source)] == [early]


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("driver", "def show():\n    from rich.console import Console", 1),
        ("driver", "from producers.terminal.console import Terminal", 1),
        ("driver", "print('done')", 1),
        ("driver", "import sys\nsys.stderr.write('x')", 1),
        ("driver", "pprint('done')", 0),
        ("commands", "from rich.table import Table\nprint(1)", 0),
    ],
)
def test_a_print_is_seen_outside_of_the_commands(file: str, source: str, found: int) -> None:
    path = ROOT / "producers" / file / "made_up.py"
    arrows = [i for i in imports_of(path, source) if prints(i)]
    assert len(arrows) + len(list(print_calls(path, source))) == found


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "os.getenv('A')", "from os import environ"]
)
def test_a_look_into_the_environment_is_seen(source: str) -> None:
    assert len(list(environment_reads(PRODUCER, source))) == 1
