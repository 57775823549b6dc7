"""How a job ended, for people and machines."""

from __future__ import annotations

from headrace.process.numbers import duration
from producers.records.snapshot import Snapshot
from producers.terminal.console import Piece, Terminal, command
from schemas.errors import ExitCode, MissingExtra, ModelChanged, ModelError, error_type_of

_CODES = {
    "finished": ExitCode.OK,
    "failed": ExitCode.JOB_FAILED,
    "cancelled": ExitCode.JOB_CANCELLED,
}
_CAUSES = {
    error_type_of(kind()): kind.exit_code for kind in (MissingExtra, ModelError, ModelChanged)
}
"""Errors that all chunks share and that a failed job passes on, as if found at submission."""
_COLORS = {"finished": "green", "failed": "red"}


def show_end(
    terminal: Terminal,
    now: Snapshot,
    seconds: float,
    report: str | None,
    log: str | None = None,
    *,
    as_json: bool,
) -> ExitCode:
    """Print how the job ended; returns the exit code of its state. `log` is that of its workers."""
    if as_json:
        terminal.print_json(now.to_json())
    else:
        for line in summary(now, seconds, report, log):
            terminal.say(*line)
    return exit_code_of(now.state, now.cause)


def exit_code_of(state: str, cause: str) -> ExitCode:
    """What the shell gets for a job that ended so; `cause` is the error that all chunks share."""
    if state == "failed" and cause in _CAUSES:
        return _CAUSES[cause]
    return _CODES.get(state, ExitCode.OK)


def summary(
    now: Snapshot, seconds: float, report: str | None, log: str | None = None
) -> list[tuple[Piece, ...]]:
    """The end of a job in a few lines."""
    color = _COLORS.get(now.state, "yellow")
    rate = f" ({now.rows_done / seconds:,.0f} rows/s)" if seconds > 0 and now.rows_done else ""
    copied = f" ({now.rows_copied:,} copied)" if now.rows_copied else ""
    reason = f": {now.reason}" if now.reason else ""
    lines: list[tuple[Piece, ...]] = [
        ((now.state, f"bold {color}"), f" job {now.job}{reason}"),
        (
            f"  rows    {now.rows_done:,} of {now.rows:,}: {now.ok:,} ok{copied}, {now.errors:,} error "
            f"in {duration(seconds)}{rate}",
        ),
    ]
    if now.errors:
        kinds = ", ".join(
            f"{k} {n:,}" for k, n in sorted(now.errors_by_type.items(), key=lambda x: -x[1])
        )
        lines.append((f"  errors  {kinds}",))
    for chunk in now.parked[:5]:
        lines.append((f"  parked  chunk {chunk['chunk']}: {chunk['cause']}: {chunk['message']}",))
    nothing = "" if now.rows else ": no parts, as the input has no rows"
    lines.append((f"  output  {now.output}/data{nothing}",))
    # a job with a cause would fail again: what its reason names is to be changed first
    if now.state == "failed" and now.chunks_parked and not now.cause:
        lines.append((f"  next    {command('retry', '--parked', now.output)}",))
    elif now.state in ("cancelled", "failed") and now.rows_done < now.rows and not now.cause:
        lines.append((f"  next    {command('resume', now.output)}",))
    if log is not None and now.state == "failed":
        lines.append((f"  log     {log}",))
    lines.append((f"  report  {report or command('report', now.output)}",))
    return lines
