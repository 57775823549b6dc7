"""Compares what was predicted at the submission with what happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headrace.process.numbers import (
    compact_number,
    compact_rate,
    exact_duration,
    money,
    worker_hours,
)
from headrace.tasks.catalog import task_spec
from producers.report.facts import Facts
from schemas.records.manifest import Receipt


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity: expected, actual, and the difference."""

    name: str
    expected: str
    actual: str
    off: str


def compare(facts: Facts) -> list[Compared]:
    """The rows of the table; empty where nothing was predicted, or the job is not finished."""
    if facts.job.predicted is None or facts.manifest.state != "finished" or not facts.receipts:
        return []
    return list(_rows(facts))


def _rows(facts: Facts) -> Iterator[Compared]:
    told, totals, manifest = facts.job.predicted, facts.manifest.totals, facts.manifest
    assert told is not None
    took_s = manifest.finished_s - (manifest.started_s or manifest.submitted_s)
    hours = worker_seconds(facts.receipts) / 3600
    yield _row("Tokens", told.tokens, totals.tokens, compact_number)
    speed = totals.tokens / max(1e-9, hours * 3600)
    yield _row("Tokens/s of a worker", told.tokens_per_s, speed, compact_rate)
    workers = len({r.worker for r in facts.receipts})
    yield Compared("Workers", compact_number(told.workers), compact_number(workers), "")
    yield _row("Time of work", told.seconds, took_s, exact_duration)
    yield _row("Worker hours", told.worker_hours, hours, worker_hours)
    if told.cost is not None and told.price_per_hour is not None:
        yield _row("Cost", told.cost, hours * told.price_per_hour, money)


def how_predicted(facts: Facts) -> str:
    """Where the prediction came from, in a sentence."""
    told = facts.job.predicted
    if told is None:
        return ""
    needs_model = task_spec(facts.job.spec.task).needs_model
    guess = "a guess from its size" if needs_model else "a guess"
    speed = "the speed from an earlier job" if told.measured else f"the speed {guess}"
    tokens = "the model's tokenizer" if told.exact_tokens else "four bytes a token"
    price = f", {money(told.price_per_hour)} a worker hour" if told.price_per_hour else ""
    return f"At the submission: tokens of a sample by {tokens}, {speed}{price}."


def worker_seconds(receipts: Iterable[Receipt]) -> float:
    """From each worker's first start to its last end: what is paid for."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for it in receipts:
        spans[it.worker].append((it.started_s, it.started_s + it.seconds))
    return sum(max(e for _, e in own) - min(s for s, _ in own) for own in spans.values())


def _row(name: str, expected: float, actual: float, show: object) -> Compared:
    assert callable(show)
    return Compared(name, show(expected), show(actual), off(expected, actual))


def off(expected: float, actual: float) -> str:
    """`+12 %`: the relative difference; `× 3.4` if it is large; empty without an expected value."""
    if expected <= 0:
        return ""
    ratio = actual / expected
    if ratio >= 2:
        return f"× {ratio:,.1f}" if ratio < 10 else f"× {ratio:,.0f}"
    if abs(ratio - 1) < 0.005:
        return "as expected"
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")  # a minus is as wide as a plus
