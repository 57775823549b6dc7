"""Fleets to break, the length of the run, and one line for each fault with its figure.

`HEADRACE_CHAOS=long` (make chaos) and `HEADRACE_CHAOS_SEED` are read here and nowhere else. The
seed decides where and when the faults fall; CI's is always the same.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.queue.embedded_redis import EmbeddedRedis
from tests.acceptance.harness.fleet import Fleet
from tests.acceptance.harness.wire import Wire

IS_LONG = os.environ.get("HEADRACE_CHAOS") == "long"
FIRST_SEED = int(os.environ.get("HEADRACE_CHAOS_SEED", "1"))
SEEDS = tuple(range(FIRST_SEED, FIRST_SEED + (5 if IS_LONG else 1)))

FIGURE = "figure"  # the property of a test's report that holds such a line
_LINES: list[str] = []


@dataclass(frozen=True)
class Scale:
    """How much of each fault: enough to show it in CI, or as much as the issue asks for."""

    is_long: bool

    def of(self, short: int, long: int) -> int:
        return long if self.is_long else short


@pytest.fixture(scope="session")
def scale() -> Scale:
    return Scale(IS_LONG)


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed{seed}")
def seed(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Where and when a fault falls, in a test that has one run; another for each test."""
    return random.Random(f"{FIRST_SEED} {request.node.name}")


Say = Callable[[str, str], None]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Note a fault's figure; the lines are printed together at the end."""
    began = time.monotonic()

    def note(fault: str, figure: str) -> None:
        record_property(FIGURE, f"{fault:>4}  {figure} ({time.monotonic() - began:.0f} s)")

    return note


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the figures in the process that prints, wherever the test ran."""
    if report.when == "call":
        _LINES.extend(str(value) for name, value in report.user_properties if name == FIGURE)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long_only: shown by a shorter test too; runs in make chaos")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [i for i in items if not IS_LONG and i.get_closest_marker("long_only")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [i for i in items if i not in left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LINES:
        form = "long" if IS_LONG else "short"
        terminalreporter.section(f"faults, {form} form, seed {FIRST_SEED}")
        for line in _LINES:
            terminalreporter.write_line(line)


MakeFleet = Callable[..., Fleet]


@pytest.fixture
def make_fleet(tmp_path: Path) -> Iterator[MakeFleet]:
    """Fleets with a Redis of their own; `persist`: with an append-only file.

    `wired`: found over TCP, on a wire that can be cut (`fleet.wire`).
    """
    fleets: list[Fleet] = []
    servers: list[EmbeddedRedis] = []

    def make(*, persist: bool = False, wired: bool = False, **settings: str) -> Fleet:
        server = EmbeddedRedis(tmp_path / f"redis{len(servers)}", persist=persist).start()
        servers.append(server)
        wire = Wire(server.socket) if wired else None
        fleets.append(Fleet(tmp_path, server, settings, wire))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
    for server in servers:
        server.stop()
