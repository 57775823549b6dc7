"""Writes reference/commands.md and the tables of reference/configuration.md: `python docs/write_pages.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from headrace.settings import Settings
from producers.cli import app as producer_app
from workers.cli import app as worker_app

HERE = Path(__file__).parent
HEAD = """# Commands

Generated from the commands by `python docs/write_pages.py`; a test compares them.
"""


def commands_of(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    """Every command with its full name, those of groups within the group too."""
    for own, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(f"{name} {own}", command)
        elif not command.hidden:
            yield f"{name} {own}", command


def commands_page() -> str:
    lines = [HEAD]
    for door, app in (("headrace", producer_app), ("headrace-worker", worker_app)):
        for name, command in commands_of(door, typer.main.get_command(app)):
            lines += _command(name, command)
    return "\n".join(lines)


def _command(name: str, command: Any) -> list[str]:
    given = [p.name.upper() for p in command.params if p.param_type_name == "argument"]
    lines = [f"## {name}", "", command.help.strip(), "", "```"]
    lines += [" ".join([name, *given, "[options]"]), "```", ""]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if options:
        lines += ["| option | what it is |", "| --- | --- |"]
        for p in options:
            off = [o for o in p.secondary_opts if o not in p.opts]
            names = ", ".join(f"`{o}`" for o in p.opts) + "".join(f" / `{o}`" for o in off)
            lines.append(f"| {names} | {p.help or ''} |")
        lines.append("")
    return lines


def with_settings(page: str) -> str:
    """The page with each setting's row written again, and new settings under the last table row."""
    lines = page.split("\n")
    rows = {name: _row(name) for name in Settings.model_fields}
    kept = []
    for line in lines:
        name = line.split("`")[1] if line.startswith("| `") else None
        if name is None or "`HEADRACE_" not in line:
            kept.append(line)
        elif name in rows:
            kept.append(rows.pop(name))
    last = max(i for i, line in enumerate(kept) if "`HEADRACE_" in line and line.startswith("| `"))
    return "\n".join([*kept[: last + 1], *rows.values(), *kept[last + 1 :]])


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    default = None if field.default_factory is not None else field.default
    shown = "–" if default in (None, (), {}) else str(default)
    return f"| `{name}` | `HEADRACE_{name.upper()}` | {shown} | {field.description} |"


if __name__ == "__main__":
    (HERE / "reference" / "commands.md").write_text(commands_page())
    page = HERE / "reference" / "configuration.md"
    page.write_text(with_settings(page.read_text()))
