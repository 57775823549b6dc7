"""Which tests one process runs one after another, where several processes share a floor.

pytest-xdist 3.8.0 has the mark `xdist_group` and `--dist loadgroup` for that. With pytest 9.2.0 they
have no effect, and say nothing: findings/xdist-group-pytest-9.sh.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/acceptance/gateway/",
    "tests/acceptance/test_seen.py",
    "tests/acceptance/training/",
    "tests/integration/gateway/test_batches.py",
)
"""Files and folders whose tests share something costly: a night, a training, a gateway."""

FILE_BY_FILE = ("tests/unit/", "tests/system/")
"""Floors of which a process runs whole files: what a file imports, parses or makes once is made once."""


def group_of(test: str) -> str:
    """The file or folder of `TOGETHER` that the test belongs to, its file, or the test itself."""
    alone = test.partition("::")[0] if test.startswith(FILE_BY_FILE) else test
    return next((path for path in TOGETHER if test.startswith(path)), alone)


class InGroups(LoadScopeScheduling):
    """Gives a process a test, or a whole group of them, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InGroups:
    """What shares something costly runs in one process."""
    return InGroups(config, log)
