"""The one place that prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from headrace.process.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.text import Text

Piece = str | tuple[str, str]
"""Text, or text and its style."""


class Terminal:
    """Where a command prints. Its text may come from anywhere: nothing in it is markup or an escape."""

    def __init__(self, out: Console | None = None, err: Console | None = None) -> None:
        from rich.console import Console

        self.out = out or Console()
        self.err = err or Console(stderr=True)

    def say(self, *line: Piece) -> None:
        """One line of the result."""
        self.out.print(plain(*line), soft_wrap=True)

    def note(self, *line: Piece) -> None:
        """One line about what happens."""
        self.err.print(plain(*line), soft_wrap=True)

    def warn(self, *warnings: str) -> None:
        for warning in warnings:
            self.note(("warning:", "yellow"), f" {warning}")

    def show(self, what: RenderableType) -> None:
        """A table and the like; its cells are made by `plain`."""
        self.out.print(what)

    def print_json(self, value: Any) -> None:
        """The one object of `--json`."""
        self.out.print_json(json.dumps(value, default=str))


class KeepingTerminal(Terminal):
    """Keeps the objects of `--json`, for a command that makes one of several."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: list[Any] = []

    def print_json(self, value: Any) -> None:
        self.objects.append(value)


def plain(*line: Piece) -> Text:
    """The pieces as one line without control characters."""
    from rich.text import Text

    return Text.assemble(
        *(
            printable(piece) if isinstance(piece, str) else (printable(piece[0]), piece[1])
            for piece in line
        )
    )


def command(*words: str) -> str:
    """A command of headrace to copy into a shell: `headrace resume '/data/my out'`."""
    return shlex.join(["headrace", *words])


def grid(rows: Iterable[tuple[str, str | Text]] = ()) -> Any:
    """A table of names and values."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(plain(name), plain(value) if isinstance(value, str) else value)
    return table


def columns(*names: str) -> Any:
    """A table with these columns and no frame."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
