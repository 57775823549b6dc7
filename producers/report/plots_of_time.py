"""Plots of a job's time: throughput, workers, stages, batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.process.numbers import axis_number, compact_plural, compact_rate, exact_duration
from producers.report.facts import Facts
from producers.report.plot_canvas import BAD, MUTED, ONE, SOFT, WIDE_IN, Canvas, Picture, canvas
from schemas.records.manifest import Receipt

BINS = 120
MOST_BARS = 600
"""Chunks drawn one by one on the timeline; chosen: more cannot be distinguished."""
MOST_WORKERS = 24
ROOMY = 2.5
"""Powers of ten on an axis up to which 2 and 5 have room beside 1; measured."""


def throughput(facts: Facts) -> Picture | None:
    """Rows per second over the job; a chunk's rows are spread over the time it took."""
    edges, per_bin = rows_over_time(facts.receipts)
    if len(edges) < 2:
        return None
    width_s = edges[1] - edges[0]
    rates = per_bin / width_s
    scale, unit = time_unit(edges[-1])
    middle = (edges[:-1] + width_s / 2) / scale
    mean = per_bin.sum() / edges[-1]
    with canvas(3.4, WIDE_IN) as it:
        it.axes.fill_between(middle, rates, color=ONE, alpha=0.18, linewidth=0)
        it.axes.plot(middle, rates, color=ONE, linewidth=2)
        it.axes.axhline(mean, color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        it.axes.annotate(
            f"mean {compact_rate(mean)}",
            (1, mean),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=MUTED,
            fontsize=10,
            annotation_clip=False,
        )
        it.label(f"{unit} since the first chunk", "rows a second")
        it.axes.set_ylim(bottom=0)
        it.axes.set_xlim(0, edges[-1] / scale)
        words = (
            f"{compact_rate(mean)} rows a second in the mean, {compact_rate(rates.max())} at most, "
            f"over {exact_duration(edges[-1])}."
        )
        return it.picture("throughput", "Throughput", words, is_wide=True)


def timeline(facts: Facts) -> Picture | None:
    """When each worker was busy: one bar per chunk, or shares of time if there are many chunks."""
    by_worker: dict[str, list[Receipt]] = {}
    for receipt in facts.receipts:
        if receipt.seconds > 0:
            by_worker.setdefault(receipt.worker or "?", []).append(receipt)
    if not by_worker:
        return None
    shown = sorted(by_worker)[:MOST_WORKERS]
    start_s = min(r.started_s for r in facts.receipts)
    end_s = max(r.started_s + r.seconds for r in facts.receipts) - start_s
    scale, unit = time_unit(end_s)
    with canvas(0.8 + 0.38 * len(shown), WIDE_IN) as it:
        draw = _bars if len(facts.receipts) <= MOST_BARS else _shares
        for row, worker in enumerate(shown):
            draw(it, row, by_worker[worker], start_s, end_s, scale)
            lost = [f for f in facts.failed if f.worker == worker]
            spans = [
                ((f.started_s - start_s) / scale, max(f.seconds, end_s / 300) / scale) for f in lost
            ]
            it.axes.broken_barh(spans, (row + 0.1, 0.22), facecolors=BAD, linewidth=0)
        it.axes.set_yticks(range(len(shown)), shown)
        it.axes.set_ylim(len(shown) - 0.4, -0.6)
        it.axes.set_xlim(0, end_s / scale)
        it.axes.grid(False)
        it.label(f"{unit} since the first chunk", "")
        words = f"{compact_plural(len(by_worker), 'worker')}, {compact_plural(len(facts.receipts), 'chunk')}."
        if facts.failed:
            words += (
                f" Red: {compact_plural(len(facts.failed), 'attempt')} that did not end in a part."
            )
        if len(by_worker) > len(shown):
            words += f" The first {len(shown)} workers are drawn."
        return it.picture("timeline", "Workers", words, is_wide=True)


def _bars(
    it: Canvas, row: int, receipts: list[Receipt], start_s: float, end_s: float, scale: float
) -> None:
    gap_s = end_s / 900  # a small gap between neighbours
    spans = [
        ((r.started_s - start_s) / scale, max(r.seconds - gap_s, gap_s) / scale) for r in receipts
    ]
    it.axes.broken_barh(spans, (row - 0.32, 0.64), facecolors=ONE, linewidth=0)


def _shares(
    it: Canvas, row: int, receipts: list[Receipt], start_s: float, end_s: float, scale: float
) -> None:
    edges = np.linspace(0, end_s, 2 * BINS + 1)
    begin = np.array([r.started_s - start_s for r in receipts])
    busy = spread(
        begin, begin + [r.seconds for r in receipts], np.array([r.seconds for r in receipts]), edges
    )
    share = np.clip(busy / (edges[1] - edges[0]), 0, 1)
    it.axes.fill_between(
        edges[:-1] / scale,
        row + 0.32,
        row + 0.32 - 0.64 * share,
        step="post",
        color=ONE,
        linewidth=0,
    )


def waterfall(facts: Facts) -> Picture | None:
    """The mean chunk: when each stage began and ended, and how much of that it was busy."""
    stages = facts.stages
    if not stages:
        return None
    end = max(s.end_s for s in stages)
    with canvas(0.9 + 0.42 * len(stages)) as it:
        for row, stage in enumerate(stages):
            span = max(stage.end_s - stage.start_s, end / 400)
            it.axes.barh(row, span, left=stage.start_s, height=0.56, color=SOFT)
            it.axes.barh(row, min(stage.busy_s, span), left=stage.start_s, height=0.56, color=ONE)
            it.axes.annotate(
                exact_duration(stage.busy_s),
                (1, row),
                (6, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=10,
                annotation_clip=False,
            )
        it.axes.set_yticks(range(len(stages)), [s.stage for s in stages])
        it.axes.set_ylim(len(stages) - 0.4, -0.6)
        it.axes.set_xlim(0, end)
        it.axes.grid(False)
        it.label("seconds since the chunk's start", "")
        words = (
            "Busy seconds in the mean chunk: "
            + ", ".join(f"{s.stage} {exact_duration(s.busy_s)}" for s in stages)
            + "."
        )
        return it.picture("waterfall", "Stages of the mean chunk", words)


def latency(facts: Facts) -> Picture | None:
    """How long a batch is on the device."""
    batch_s = facts.batch_s[facts.batch_s > 0]
    if len(batch_s) < 2:
        return None
    low, high = np.quantile(batch_s, [0.001, 0.999])
    edges = np.geomspace(max(low, 1e-6), max(high, low * 1.01), 41)
    p50, p95, p99 = np.quantile(batch_s, [0.5, 0.95, 0.99])
    with canvas() as it:
        it.histogram(batch_s * 1000, edges * 1000)
        it.axes.set_xscale("log")
        for level, (value, name) in enumerate(((p50, "p50"), (p95, "p95"), (p99, "p99"))):
            it.mark(value * 1000, name, level)
        it.axes.xaxis.set_major_formatter(axis_number)
        decades = float(np.log10(edges[-1] / edges[0]))
        it.axes.xaxis.set_minor_formatter(_minor if decades < ROOMY else "")
        it.label("milliseconds a batch", "batches")
        words = (
            f"Half of the batches take {exact_duration(p50)} or less, "
            f"95 % {exact_duration(p95)}, 99 % {exact_duration(p99)}."
        )
        return it.picture("latency", "Time of a batch on the device", words)


def rows_over_time(receipts: tuple[Receipt, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins in seconds since the first chunk `[n + 1]`, and rows within each `[n]`."""
    timed = [r for r in receipts if r.seconds > 0]
    if not timed:
        return np.empty(0), np.empty(0)
    begin = np.array([r.started_s for r in timed])
    end = begin + [r.seconds for r in timed]
    begin, end = begin - begin.min(), end - begin.min()
    bins = int(np.clip(2 * len(timed), 12, BINS))
    edges = np.linspace(0, end.max(), bins + 1)
    return edges, spread(begin, end, np.array([r.rows for r in timed], dtype=float), edges)


def spread(begin: np.ndarray, end: np.ndarray, amount: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The amount in each bin if every amount is spread evenly from its begin to its end."""
    share = np.clip((edges[None, :] - begin[:, None]) / (end - begin)[:, None], 0, 1)
    return np.diff((share * amount[:, None]).sum(axis=0))


def time_unit(longest_s: float) -> tuple[float, str]:
    """Seconds in the unit that suits the length, and its name."""
    if longest_s < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest_s < 3 * 3600 else (3600.0, "hours")


def _minor(value: float, _position: Any = None) -> str:
    """Labels for 2 and 5 between the powers of ten, if there is no room for more."""
    digit = value / 10 ** np.floor(np.log10(value))
    return axis_number(round(value, 6)) if round(digit) in (2, 5) else ""
