"""A task of another package, as the docs show it: its flags, columns, estimate, report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "development" / "add-a-task.md"
BIN = Path(sys.executable).parent
ROWS = 50

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as `pip install` leaves it, with the package of the docs page in it."""
    folder = tmp_path / "site"
    section = PAGE.read_text().split("## A complete example", 1)[1]
    blocks = re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", section, re.S)
    assert [name for name, _ in blocks] == ["pyproject.toml", "loud/spec.py", "loud/task.py"]
    (folder / "loud").mkdir(parents=True)
    (folder / "loud" / "__init__.py").touch()
    for name, text in blocks[1:]:
        (folder / name).write_text(text)
    groups = tomllib.loads(blocks[0][1])["project"]["entry-points"]
    told = folder / "loud-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items())
            for group, points in groups.items()
        )
    )
    return folder


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    """The command `headrace` where that package is installed."""
    corpus = tmp_path / "corpus.parquet"
    names, texts = [f"n-{i}" for i in range(ROWS)], [f"row {i}" for i in range(ROWS)]
    pq.write_table(pa.table({"name": names, "text": texts, "other": ["yes"] * ROWS}), corpus)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    environment = kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(site),
        "COLUMNS": "200",
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "headrace", *words], env=environment, capture_output=True, text=True,
            timeout=90, cwd=tmp_path,
        )  # fmt: skip

    return call


JOB = ("corpus.parquet", "--output", "out", "--task", "shout", "--id-column", "name")


def test_a_plug_in_is_run_explained_and_reported_like_our_own_tasks(
    run: Run, tmp_path: Path
) -> None:
    done = run("run", *JOB, "--text-pair-column", "other", "--times", "2", "--workers", "1")
    assert done.returncode == ExitCode.OK, done.stderr
    rows = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert [r["shout"] for r in rows] == [f"ROW {i} YES ROW {i} YES!" for i in range(ROWS)]
    job = json.loads((tmp_path / "out" / "_headrace" / "job.json").read_text())
    assert job["spec"]["params"] == {"times": 2}
    explained = json.loads(run("explain", "out", "--id", "n-3", "--json").stdout)
    shown = {"shout": "ROW 3 YES ROW 3 YES!", "mood": "loud"}
    assert explained["rows"][0]["prediction"] == shown
    page = run("report", "out", "--to", "page.html")
    assert page.returncode == ExitCode.OK, page.stderr
    assert re.search("loud\u2069? 100\\S* %", (tmp_path / "page.html").read_text())


def test_its_options_are_shown_and_checked(run: Run) -> None:
    assert "shout: how often the text is repeated" in run("run", "--help").stdout
    once, twice = (
        json.loads(run("plan", *JOB, "--times", times, "--mark", "?", "--json").stdout)
        for times in ("1", "2")
    )
    assert once["rows"] == twice["rows"] == ROWS
    assert twice["tokens_total"] == 2 * once["tokens_total"] > 0
    for words, code, why in [
        (("--times", "many"), ExitCode.USAGE, "--times"),
        (("--mark", "."), ExitCode.CONFIG, "not one of !, ?"),
        (("--task-params", '{"time": 2}'), ExitCode.CONFIG, "no option time"),
        (("--times", "2", "--task", "feature-extraction"), ExitCode.CONFIG, "no option times"),
        (("--columns", "mood"), ExitCode.COLUMN, "a column that shout writes"),
    ]:
        done = run("plan", *JOB, *words)
        assert done.returncode == code, (words, done.stderr)
        assert why in done.stderr, (words, done.stderr)
