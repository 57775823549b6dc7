"""How near a precision is to float32, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from producers.submission.precision import GATED
from producers.terminal.console import grid, plain
from schemas.records.precision import (
    Agreement,
    PrecisionCheck,
    percent,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_WHAT = {"labels": "scores", "cosine": "components of vectors", "correlation": "values"}


def render_precision(checked: PrecisionCheck, dtype: str) -> RenderableType:
    """The comparison as a table, with its verdict in the last row."""
    from rich.console import Group
    from rich.text import Text

    table = grid()
    found = checked.agreement
    for name, value in _rows(found) if found is not None else ():
        table.add_row(name, plain(value))
    verdict, style = _verdict(checked, dtype in GATED)
    table.add_row("verdict", plain((verdict, style)))
    return Group(Text(), Text(f"{dtype} beside float32", style="bold"), table)


def _rows(found: Agreement) -> Iterator[tuple[str, str]]:
    yield "compared", f"{found.rows:,} rows from all over the corpus, in {found.seconds:,.0f} s"
    if found.measure == "labels":
        same = found.compared - (found.differing or 0)
        yield "same label", f"{percent(found.share)} ({same:,} of {found.compared:,})"
        if found.entities is not None:
            yield "of entities", f"{percent(found.entities)}, where either sees one"
    elif found.measure == "cosine":
        yield "cosine", f"{found.share:.4f} on average, {found.lowest or 0:.4f} at worst"
    else:
        yield "correlation", f"{found.share:.4f}"
    yield (
        _WHAT[found.measure],
        f"{found.mean_difference:.4f} apart on average, {found.max_difference:.4f} at most",
    )
    yield "speed", f"{found.speed:.2f} times float32 on {found.device}"


def _verdict(checked: PrecisionCheck, is_gated: bool) -> tuple[str, str]:
    """The words, and the colour they have."""
    under = f"under the floor of {checked.floor:g}"
    if checked.passed:
        return f"not {under}", "green"
    why = checked.sentence() if checked.agreement is None else under
    if checked.accepted:
        return f"{why}; accepted (--accept-precision)", "yellow"
    return (f"{why}: a job is refused without --accept-precision" if is_gated else why), "red"
