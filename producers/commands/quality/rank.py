"""`headrace rank`: ranks of an output's rows within groups."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from headrace.process.numbers import plural
from headrace.storage.open import open_store
from producers.commands.session import Session
from producers.inspection.ranks import write_ranks
from schemas.errors import ExitCode


def rank_output(session: Session, output: str, *, group_column: str, to: Path) -> int:
    """Write the rows of an output with their ranks, and say how many there are."""
    found = write_ranks(open_store(output, session.settings), group_column, to)
    if session.as_json:
        session.terminal.print_json({"file": str(to), **asdict(found)})
        return ExitCode.OK
    without = f", {found.without:,} without a rank" if found.without else ""
    rows, groups = plural(found.rows, "row"), plural(found.groups, "group")
    session.terminal.note(f"{rows} in {groups}{without}: {to}")
    return ExitCode.OK
