"""Which tests one process runs one after another, where several share a floor, and which come first.

pytest-xdist 3.8.0 has the mark `xdist_group` and `--dist loadgroup` for that. With pytest 9.2.0 they
have no effect, and say nothing: findings/xdist-group-pytest-9.sh.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ("pytest_collection_modifyitems", "pytest_xdist_make_scheduler")

TOGETHER = (
    "tests/acceptance/gateway/",
    "tests/acceptance/test_seen.py",
    "tests/acceptance/training/",
    "tests/integration/gateway/test_batches.py",
)
"""Files and folders whose tests share something costly: a night, a training, a gateway."""

FILE_BY_FILE = ("tests/unit/", "tests/system/")
"""Floors of which a process runs whole files: what a file imports, parses or makes once is made once."""

LONGEST = (
    "tests/acceptance/training/",
    "tests/acceptance/test_seen.py",
    "tests/acceptance/gateway/",
    "tests/acceptance/generation/test_generation.py",
    "tests/acceptance/commands/",
    "tests/acceptance/test_kills.py",
    "tests/acceptance/test_stores_away.py",
    "tests/acceptance/test_store_faults.py::test_8",
    "tests/acceptance/test_stops.py::test_10_rolling",
    "tests/acceptance/test_producers.py",
    "tests/acceptance/test_old_outputs.py",
    "tests/acceptance/test_plug_in.py",
    "tests/acceptance/test_fleet_scaling.py",
    "tests/acceptance/test_wheel.py",
    "tests/integration/benchmarks_of_ours/",
    "tests/integration/gateway/",
    "tests/integration/local/",
    "tests/integration/control/test_store_away.py",
)
"""They begin first, in this order, so that no process is left with a long one at the end."""


def group_of(test: str) -> str:
    """The file or folder of `TOGETHER` that the test belongs to, its file, or the test itself."""
    alone = test.partition("::")[0] if test.startswith(FILE_BY_FILE) else test
    return next((path for path in TOGETHER if test.startswith(path)), alone)


def place_of(test: str) -> int:
    """How many of `LONGEST` come before the test."""
    found = (at for at, path in enumerate(LONGEST) if test.startswith(path))
    return next(found, len(LONGEST))


class InGroups(LoadScopeScheduling):
    """Gives a process a test, or a whole group of them."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InGroups:
    """What shares something costly runs in one process."""
    config.option.loadscopereorder = False  # they come in the order of `LONGEST`
    return InGroups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In each process of several: the longest first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))
