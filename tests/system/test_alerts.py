"""The alert rules, asked by Prometheus' own tool: each fires where it should and only there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.system.conftest import program

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=["configuration", "alerts"],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_on(expressions: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of these queries, each as a rule, with Grafana's variables filled in."""
    filled = [re.sub(r"\$\{?queue\b(:\w+)?\}?", "default", e) for e in expressions]
    rules = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(filled)]
    path = folder / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    return subprocess.run(
        [program("promtool"), "check", "rules", path], capture_output=True, text=True
    )


@pytest.mark.parametrize("board", ["headrace-fleet", "headrace-job"])
def test_promtool_can_read_every_query_of_a_dashboard(board: str, tmp_path: Path) -> None:
    panels = json.loads((DEPLOY / "grafana" / "dashboards" / f"{board}.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) > 10
    done = promtool_on(queries, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
    broken = promtool_on([*queries, queries[0] + ")"], tmp_path)
    assert broken.returncode != 0, "the tool tells nothing apart"
