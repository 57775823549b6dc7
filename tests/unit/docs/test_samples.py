"""Samples in the pages work: commands and options exist, and the example of a task is one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest, Task
from headrace.tasks.spec import TaskSpec
from producers.cli import app as producer_app
from tests.unit.command_groups import group_of
from workers.cli import app as worker_app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
APPS = {"headrace": producer_app, "headrace-worker": worker_app}


def command_lines(page: str) -> Iterator[str]:
    """Every `$ headrace …` of a console block, continued lines joined, comments left out."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.replace("\\\n", " ").split("\n"):
            if line.startswith(("$ headrace ", "$ headrace-worker ")):
                yield re.sub(r"\s#.*|\s&.*", "", line[2:]).replace("…", "")


def fault_of(line: str) -> str | None:
    """What of a command line the program does not know; None when it knows all of it."""
    program, name, *given = shlex.split(line)
    if name.startswith("-"):
        return None
    if "shout" in given:  # the example's own options come with its package
        return None
    group = group_of(APPS[program])
    while name in getattr(group, "commands", ()) and hasattr(group.commands[name], "commands"):
        group, name, given = group.commands[name], given[0], given[1:]
    if name not in group.commands:
        return f"no command {name}"
    known = {o for p in group.commands[name].params for o in [*p.opts, *p.secondary_opts]}
    strange = [word for word in given if re.match(r"--?[a-z]", word) and word not in known]
    return f"no option {strange[0]}" if strange else None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_a_page_exist_with_their_options(page: Path) -> None:
    found = [(line, fault_of(line)) for line in command_lines(page.read_text())]
    assert [(line, fault) for line, fault in found if fault] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    for name in re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", page.read_text()):
        path = ROOT / name.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_pages_show_many_commands() -> None:
    assert sum(len(list(command_lines(page.read_text()))) for page in PAGES) > 30


def test_a_command_that_does_not_exist_is_found() -> None:
    page = "```console\n$ headrace run a \\\n    --output b  # --no\n$ headrace rum a\n$ headrace run --outptu b\n```"
    assert [fault_of(line) for line in command_lines(page)] == [
        None, "no command rum", "no option --outptu",
    ]  # fmt: skip


def test_the_example_of_a_task_is_a_task_and_does_what_it_says() -> None:
    page = (ROOT / "docs" / "development" / "add-a-task.md").read_text()
    scope: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, scope)
    spec, task = scope["SHOUT"], scope["Shout"]()
    assert isinstance(spec, TaskSpec)
    assert isinstance(task, Task)
    task.load(LoadRequest("", "cpu", "float32", max_length=None, params=spec.resolve({"times": 2})))
    batch = task.encode(["abc", "x"])
    assert batch.lengths.tolist() == [3, 1]
    rows = task.decode(batch, task.forward(batch))
    assert rows.to_pydict() == {"shout": ["ABC ABC!", "X X!"], "mood": ["loud", "loud"]}
    assert tuple(rows.schema.names) == spec.columns
