"""Documentation that cannot drift: every command, option, setting, exit code and column is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.settings import Settings
from headrace.tasks.catalog import BUILT_IN
from producers.cli import app as producer_app
from schemas.errors import ExitCode
from schemas.names import output_layout
from schemas.records.part_schema import TAIL
from tests.unit.command_groups import group_of
from workers.cli import app as worker_app

ROOT = Path(__file__).parents[3]
# Described on other pages, not as options.
PLAIN = {"help"}


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def all_pages() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text() for page in pages)


def commands() -> list[tuple[str, Any]]:
    found = []
    for door, app in (("headrace", producer_app), ("headrace-worker", worker_app)):
        found += list(commands_of(door, group_of(app)))
    return found


def commands_of(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for own, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(f"{name} {own}", command)
        elif not command.hidden:
            yield f"{name} {own}", command


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_configuration_page(name: str) -> None:
    page = text_of("docs/reference/configuration.md")
    assert f"| `{name}` | `HEADRACE_{name.upper()}` |" in page
    assert (Settings.model_fields[name].description or "") in page


def test_the_configuration_page_names_no_setting_that_is_not_there() -> None:
    named = re.findall(
        r"^\| `(\w+)` \| `HEADRACE_", text_of("docs/reference/configuration.md"), re.M
    )
    assert set(named) == set(Settings.model_fields)


def test_every_exit_code_is_in_its_page_once() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text_of("docs/reference/exit-codes.md"), re.M)
    assert rows == [(str(code.value), code.name) for code in ExitCode]


@pytest.mark.parametrize(
    ("name", "command"), commands(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_command_and_option_is_documented(name: str, command: Any) -> None:
    page = text_of("docs/reference/commands.md")
    assert f"## {name}" in page
    section = page.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name not in PLAIN:
            assert f"`{parameter.opts[0]}`" in section, f"{name} {parameter.opts[0]}"


def test_every_column_of_a_part_is_documented() -> None:
    page = text_of("docs/reference/output.md")
    for name in [f.name for f in TAIL] + [c for task in BUILT_IN.values() for c in task.columns]:
        assert f"`{name}`" in page, name


def test_every_object_of_an_output_is_documented() -> None:
    page = text_of("docs/reference/output.md")
    for name in (
        output_layout.JOB,
        output_layout.PLAN,
        output_layout.MANIFEST,
        output_layout.SUCCESS,
        output_layout.REPORT,
    ):
        assert name.rsplit("/", 1)[-1] in page, name


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_table_has_a_head_and_rows_as_wide_as_it() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [f"{page.name}:{where}" for page in pages for where in broken_rows(page.read_text())]
    assert broken == []


def test_a_row_under_the_wrong_head_is_found() -> None:
    good = "| a | b |\n| --- | ---: |\n| `x | y` | 2 |\n"
    assert list(broken_rows(good)) == []
    assert list(broken_rows(good + "| 1 | 2 | 3 |\n")) == [4]
    assert list(broken_rows(good + "\n| 1 | 2 |\n| 1 | 2 |\n")) == [6]


def broken_rows(page: str) -> Iterator[int]:
    """Lines, from 1, of rows that no Markdown reader shows under the head they were written for."""
    within, cells, row = False, 0, 0
    for number, line in enumerate(page.split("\n"), 1):
        within ^= line.lstrip().startswith("```")
        if within or not line.startswith("|"):
            row = 0
            continue
        row += 1
        found = re.sub(r"`[^`]*`", "", line).replace(r"\|", "").count("|")
        cells = found if row == 1 else cells
        if found != cells or (row == 2 and not re.fullmatch(r"\|( :?-+:? \|)+", line)):
            yield number
