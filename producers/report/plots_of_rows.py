"""Plots of a job's rows: labels, scores, lengths, padding."""

from __future__ import annotations

import numpy as np

from headrace.process.numbers import compact_plural, percent_of
from headrace.tasks.catalog import task_spec
from producers.report.facts import Facts
from producers.report.plot_canvas import ONE, Picture, canvas


def lengths(facts: Facts) -> Picture | None:
    """Tokens per row."""
    tokens = facts.sample.tokens
    if not len(tokens):
        return None
    longest = float(tokens.max())
    edges = np.arange(0.5, longest + 1.5, max(1, np.ceil(longest / 48)))
    edges = np.append(edges, longest + 0.5) if edges[-1] < longest + 0.5 else edges
    p50, p99 = np.quantile(tokens, [0.5, 0.99])
    with canvas() as it:
        it.histogram(tokens, edges)
        it.mark(p50, "p50")
        it.mark(p99, "p99", level=1)
        it.axes.set_xlim(left=0)
        it.label("tokens a row", "rows")
        words = (
            f"Half of the rows have {p50:.0f} tokens or fewer, 99 % {p99:.0f}, "
            f"the longest {longest:.0f}; {compact_plural(facts.manifest.totals.truncated, 'row')} cut."
        )
        return it.picture("lengths", "Length of the rows", words)


def padding(facts: Facts) -> Picture | None:
    """The share of padding in what the device computed, per chunk."""
    seen = [(r.tokens, r.padding_tokens) for r in facts.receipts if r.tokens]
    if not any(wasted for _, wasted in seen):
        return None  # the page says so in words
    tokens, wasted = np.array(seen, dtype=float).T
    shares = 100 * wasted / (tokens + wasted)
    with canvas() as it:
        it.histogram(shares, np.linspace(0, max(1.0, shares.max()), 41))
        it.axes.set_xlim(0, max(1.0, shares.max()))
        it.label("percent of the tokens on the device", "chunks")
        mean = percent_of(wasted.sum(), (tokens + wasted).sum())
        words = (
            f"{mean} of what the device saw was padding; {shares.max():.1f} % in the worst chunk."
        )
        return it.picture("padding", "Padding", words)


def labels(facts: Facts) -> Picture | None:
    """Labels by frequency."""
    found = facts.sample.labels.most_common(12)
    if not found:
        return None
    total = sum(facts.sample.labels.values())
    with canvas(max(1.8, 0.7 + 0.4 * len(found))) as it:
        values = [n for _, n in found]
        it.axes.barh(range(len(found)), values, height=0.6, color=ONE)
        for row, value in enumerate(values):
            it.axes.annotate(
                percent_of(value, total),
                (value, row),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
        it.axes.set_yticks(range(len(found)), [_short(name) for name, _ in found])
        it.axes.set_ylim(len(found) - 0.4, -0.6)
        it.axes.set_xlim(0, max(values) * 1.16)
        it.axes.set_xticks([])
        it.axes.spines["bottom"].set_visible(False)
        it.axes.grid(False)
        # isolated, so that a label that is written from right to left turns no number around
        shares = (f"\u2068{name}\u2069 {percent_of(n, total)}" for name, n in found)
        words = ", ".join(shares) + "."
        return it.picture("labels", "Labels", words)


def scores(facts: Facts) -> Picture | None:
    """The distribution of scores."""
    values = facts.sample.scores
    if not len(values):
        return None
    with canvas() as it:
        it.histogram(values, np.linspace(min(0.0, values.min()), max(1.0, values.max()), 41))
        it.label("score", task_spec(facts.job.spec.task).scored_unit)
        it.axes.set_xlim(min(0.0, values.min()), max(1.0, values.max()))
        low = percent_of((values < 0.6).sum(), len(values))
        words = f"Median {np.median(values):.3f}; {low} below 0.6."
        return it.picture("scores", "Scores", words)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"
