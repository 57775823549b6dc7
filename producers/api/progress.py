"""How far a job is, where a program runs: a bar at a terminal, a table in a notebook."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from html import escape
from typing import Any

from headrace.process.printable import printable
from producers.driver.drive import OnProgress
from producers.records.snapshot import Snapshot
from producers.terminal.progress import JobProgress, Rate, at_work, pace, trouble

NOTEBOOK_S = 1.0
"""Seconds between two changes of the table in a notebook. Chosen: each is a message to a browser."""


@contextlib.contextmanager
def shown(progress: bool | OnProgress) -> Iterator[OnProgress]:
    """A function that shows the snapshots it gets; `progress` may be one, or False for nothing."""
    display = notebook_display() if progress is True else None
    if callable(progress):
        yield progress
    elif display is not None:
        yield NotebookProgress(display)
    elif progress:
        from rich.console import Console

        with JobProgress(Console(stderr=True)) as bar:
            yield bar
    else:
        yield lambda now: None


def notebook_display() -> Any:
    """IPython's `display`, where a notebook's kernel runs this process; else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return sys.modules["IPython.display"].display


class NotebookProgress:
    """One table below the cell, changed as the job proceeds."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._rate = Rate()
        self._last = -NOTEBOOK_S

    def __call__(self, now: Snapshot) -> None:
        """Show this."""
        clock = time.monotonic()
        self._rate.add(clock, now.rows_done + now.rows_live)
        if clock - self._last < NOTEBOOK_S and not now.is_over:
            return
        self._last = clock
        page = Html(job_html(now, self._rate))
        if self._handle is None:
            self._handle = self._display(page, display_id=True)
        else:
            self._handle.update(page)


class Html:
    """Text that a notebook shows as HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def job_html(now: Snapshot, rate: Rate | None = None) -> str:
    """A job as a small HTML table; everything in it is escaped."""
    seen = min(now.rows, now.rows_done + now.rows_live)
    lines = [
        ("job", now.job),
        ("state", f"{now.state}: {now.reason}" if now.reason else now.state),
        ("task", f"{now.task} with {now.model}" if now.model else now.task),
        ("rows", pace(now, rate or Rate())),
        ("at work", at_work(now)),
        ("errors", trouble(now)),
        ("output", now.output),
    ]
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(label)}</th>'
        f'<td style="text-align:left">{escape(printable(value))}</td></tr>'
        for label, value in lines
        if value
    )
    bar = f'<progress max="{max(1, now.rows)}" value="{seen}" style="width:100%"></progress>'
    return f'<div style="max-width:48em">{bar}<table>{rows}</table></div>'
