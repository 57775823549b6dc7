"""An estimate, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.process.numbers import plural, rough_duration, size
from producers.submission.estimate import Estimate
from producers.terminal.console import grid, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 40


def render_plan(told: Estimate) -> RenderableType:
    """The estimate as a table, with the token histogram under it."""
    from rich.console import Group
    from rich.text import Text

    table = grid()
    revision = told.model_revision
    short = revision[:19] + "…" if len(revision) > 20 else revision
    parameters = f", {told.parameters / 1e6:,.1f} M parameters" if told.parameters else ""
    speed = "measured" if told.measured else "a guess from the model's size"
    rows: list[tuple[str, str]] = [
        ("job", f"{told.job} → {told.output}"),
        (
            "input",
            f"{plural(told.files, 'file')}, {plural(told.rows, 'row')}, {size(told.file_bytes)}",
        ),
        ("task", f"{told.task}, {told.dtype}"),
        ("longest", f"{told.max_length:,} tokens a row ({told.max_length_from})"),
        ("model", f"{told.model} ({short}{parameters})"),
        ("chunks", f"{told.chunks:,} of up to {told.chunk_rows:,} rows"),
        ("tokens", f"some {told.tokens_total:,} to score"),
        ("speed", f"{told.tokens_per_s:,.0f} tokens/s a worker ({speed})"),
        ("time", f"{rough_duration(told.seconds)} with {plural(told.workers, 'worker')}"),
    ]
    rows += _of_generation(told)
    if told.cost is not None:
        rows.append(("cost", f"{told.cost:,.2f} for {told.worker_hours:,.2f} worker hours"))
    for name, value in rows:
        table.add_row(name, plain(value))
    warnings = [plain((f"warning: {warning}", "yellow")) for warning in told.warnings]
    return Group(table, Text(), _histogram(told), *warnings)


def _of_generation(told: Estimate) -> list[tuple[str, str]]:
    """The engine and each setting, for a job that generates."""
    if not told.generation:
        return []
    found = [("engine", told.engine)]
    return found + [(name, value) for name, value in told.generation.items()]


def _histogram(told: Estimate) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    tokens = told.tokens
    fate = "are too long, an error (--on-long)" if told.on_long == "error" else "will be truncated"
    counted = "the model's tokenizer" if tokens.exact else "four bytes a token"
    head = (
        f"tokens a row, in a sample of {tokens.rows:,} (by {counted}): mean {tokens.mean:.0f}, "
        f"median {tokens.median}, 95 % under {tokens.p95 + 1}, longest {tokens.most}; "
        f"{tokens.truncated_share:.1%} {fate}"
    )
    table = grid()
    most = max((found.rows for found in tokens.bins), default=1)
    for found in tokens.bins:
        label = f"{found.low}–{found.high - 1}" if found.high else f"{found.low} and more"
        bar = "█" * round(_BAR * found.rows / most)
        table.add_row(label, plain(f"{bar} {found.rows / tokens.rows:.1%}"))
    return Group(Text(head), table)
