"""What a recount found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.terminal.console import grid, plain
from producers.verification.result import VerifyResult, problem_lines

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_verdict(result: VerifyResult) -> RenderableType:
    """What a recount found."""
    from rich.console import Group
    from rich.text import Text

    style = {"verified": "green", "incomplete": "yellow", "wrong": "red"}[result.verdict]
    table = grid()
    spec = result.job.spec
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in result.errors_by_type.most_common())
    for name, value in (
        ("job", f"{result.job.id} in {result.job.output}, {result.state}"),
        ("parts", f"{result.parts:,} of {result.chunks:,}"),
        ("rows", f"{result.rows:,} of {result.job.rows:,} planned"),
        ("ok", f"{result.ok:,}"),
        ("errors", f"{result.errors:,}" + (f" ({kinds})" if kinds else "")),
        ("model", f"{spec.model.uri} {spec.model.revision}"),
    ):
        table.add_row(name, plain(value))
    notes = [plain(note) for note in result.notes]
    problems = [plain((f"✗ {line}", "red")) for line in problem_lines(result)]
    return Group(Text(result.verdict, style=f"bold {style}"), table, *notes, *problems)
