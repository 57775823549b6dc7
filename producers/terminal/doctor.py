"""What `headrace doctor` found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.inspection.doctor import Report, State
from producers.terminal.console import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

_MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "bad": ("✗", "red"),
    "absent": ("–", "dim"),
}


def render_doctor(report: Report) -> RenderableType:
    """The report as a table, section by section."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for style in ("bold", "", "dim"):
        table.add_column(style=style, no_wrap=True)
    table.add_column(overflow="fold")
    section = ""
    for row in report.rows:
        mark, style = _MARKS[row.state]
        head = row.section if row.section != section else ""
        section = row.section
        table.add_row(head, plain((mark, style)), plain(row.name), plain(row.value))
    return table
