"""A job on its way, for people: a bar at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from headrace.process.numbers import duration, plural
from headrace.process.printable import printable
from producers.records.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LINE_EVERY_S = 30.0  # chosen: a nightly job's log should tell, not flood
RATE_OVER_S = 20.0  # chosen: long enough to be calm, short enough to be true
CALM_S = 3.0  # chosen: what the first batches say of the time left is off by minutes


class Rate:
    """Rows per second over the last twenty, from the first row on; the clock is passed in."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def add(self, now_s: float, rows: int) -> None:
        if [r for _, r in self._seen] == [rows]:
            self._seen.clear()  # nothing moves yet: models are being loaded
        self._seen.append((now_s, rows))
        while len(self._seen) > 2 and now_s - self._seen[0][0] > RATE_OVER_S:
            self._seen.pop(0)

    @property
    def rows_per_s(self) -> float:
        """0 while it is not known."""
        if len(self._seen) < 2:
            return 0.0
        (t0, r0), (t1, r1) = self._seen[0], self._seen[-1]
        return max(0.0, (r1 - r0) / (t1 - t0)) if t1 - t0 >= CALM_S else 0.0


class JobProgress:
    """Shows a job's snapshots as they come: a bar at a terminal, else a line now and then.

    Used as a context manager, which takes the bar away at the end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: _Bar | None = None
        self._lines = _Lines(console)

    def __enter__(self) -> JobProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, now: Snapshot) -> None:
        """Show this."""
        if not self._console.is_terminal:
            self._lines(now)
            return
        if self._bar is None:
            self._bar = _Bar(self._console)
        self._bar(now)


class _Bar:
    """The bar, and under it what would squeeze it, a line each."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.text import Text

        class Bar(Progress):
            below: tuple[str, ...] = ()

            def get_renderables(self) -> Iterable[RenderableType]:
                yield from super().get_renderables()
                for line in self.below:
                    yield Text(
                        f"  {printable(line)}", style="dim", overflow="ellipsis", no_wrap=True
                    )

        columns = (
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[state]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[pace]}"),
        )
        self._rate = Rate()
        self._progress = Bar(*columns, console=console, transient=True)
        self._progress.start()
        self._task = self._progress.add_task("job", total=None, state="starting", pace="")

    def __call__(self, now: Snapshot) -> None:
        seen = now.rows_done + now.rows_live
        self._rate.add(time.monotonic(), seen)
        self._progress.below = tuple(filter(None, (at_work(now), trouble(now))))
        self._progress.update(
            self._task,
            total=now.rows,
            completed=min(seen, now.rows),
            state=_doing(now, seen),
            pace=pace(now, self._rate),
        )

    def stop(self) -> None:
        self._progress.stop()


class _Lines:
    """A line each half minute, and at once where something is wrong."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = Rate()
        self._last = time.monotonic()
        self._reason = ""

    def __call__(self, now: Snapshot) -> None:
        clock = time.monotonic()
        self._rate.add(clock, now.rows_done + now.rows_live)
        if clock - self._last >= LINE_EVERY_S or (now.reason and not self._reason):
            self._last = clock
            doing = _doing(now, now.rows_done + now.rows_live)
            line = printable(f"{doing}: {progress_line(now, self._rate)}")
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._reason = now.reason


def _doing(now: Snapshot, seen: int) -> str:
    """The job's state, or what it waits for before its first row."""
    if seen or now.state != "running":
        return now.state
    return "loading the model" if now.workers else "waiting for a worker"


def progress_line(now: Snapshot, rate: Rate) -> str:
    """Rows, rate, time left, workers, stages and errors, in one line."""
    return " · ".join(part for part in (pace(now, rate), at_work(now), trouble(now)) if part)


def pace(now: Snapshot, rate: Rate) -> str:
    """Rows, rate and time left."""
    seen = min(now.rows, now.rows_done + now.rows_live)
    parts = [now.note] if now.note else []
    parts.append(f"{seen / max(1, now.rows):.0%}" if now.note else f"{seen:,}/{now.rows:,} rows")
    if rate.rows_per_s > 0:
        if not now.note:  # a training passes over its rows several times, and says its own rate
            parts.append(f"{rate.rows_per_s:,.0f} rows/s")
        if seen < now.rows:
            parts.append(f"{duration((now.rows - seen) / rate.rows_per_s)} left")
    return " · ".join(parts)


def at_work(now: Snapshot) -> str:
    """Workers, and where their time goes."""
    parts = []
    if now.workers:
        parts.append(plural(now.workers, "worker"))
    shares = stage_shares(now.stages_s)
    if shares:
        parts.append(", ".join(f"{stage} {share:.0%}" for stage, share in shares))
    return " · ".join(parts)


def trouble(now: Snapshot) -> str:
    """Error rows by class, parked chunks, and why a chunk failed or the job rests."""
    parts = []
    if now.errors:
        kinds = ", ".join(
            f"{k} {n:,}" for k, n in sorted(now.errors_by_type.items(), key=lambda x: -x[1])[:3]
        )
        more = ", …" if len(now.errors_by_type) > 3 else ""
        rows = plural(now.errors, "error row")
        parts.append(f"{rows}: {kinds}{more}" if kinds else rows)
    if now.chunks_parked:
        parts.append(f"{plural(now.chunks_parked, 'chunk')} parked")
    if now.reason:
        parts.append(now.reason)
    return " · ".join(parts)


def stage_shares(stages_s: Mapping[str, float], most: int = 3) -> list[tuple[str, float]]:
    """The stages that take most of the busy time, with their shares of it; small ones left out."""
    total = sum(stages_s.values())
    ordered = sorted(stages_s.items(), key=lambda item: -item[1])
    return [(stage, s / total) for stage, s in ordered[:most] if total and s / total >= 0.005]
