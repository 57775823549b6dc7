"""Where a job's texts come from: a column, or a template over several, under one name."""

from __future__ import annotations

MADE = "\0text:"
"""What the name of a text begins with that is made of columns; no column of a file has such a name."""


def made_text(template: str) -> str:
    """The name under which a reader gives the texts of this template."""
    return MADE + template


def template_in(name: str) -> str | None:
    """The template of such a name; None where the name is a column's."""
    return name.removeprefix(MADE) if name.startswith(MADE) else None


def shown(name: str) -> str:
    """The name for messages: the column's, or the template."""
    return name.removeprefix(MADE)
