"""Commands in a home of their own, as processes that end with the test; and a corpus for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of its own for the registry, the logs and the caches."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    return kept | {
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = 600
    texts: list[str | None] = [f"row {i} says hello" for i in range(rows)]
    texts[7] = None
    path = tmp_path / "corpus.parquet"
    table = pa.table({"name": [f"n-{i}" for i in range(rows)], "text": texts, "stars": range(rows)})
    pq.write_table(table, path, row_group_size=100)
    return path


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def launch(*command: str, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=environment | extra, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def call(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    def run(*command: str, **extra: str) -> tuple[int, str, str]:
        process = start(*command, **extra)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    return run
