"""An evaluation, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from producers.quality.classification import Evaluation, LabelScores
from producers.quality.gold import Evaluated
from producers.quality.intervals import Interval
from producers.terminal.console import columns, grid, plain
from schemas.records.job import Job

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_LABELS = 30
"""Chosen: a longer confusion table fits no terminal; `--json` has all of it."""


def as_json(found: Evaluated) -> dict[str, Any]:
    """The object of `--json`: every number, the whole confusion table."""
    return {
        **about_job(found.job),
        **_numbers(found.overall),
        "without_gold": found.without_gold,
        "without_prediction": found.without_prediction,
        "calibration_error": found.calibration.error,
        "calibration": found.calibration.table(),
        "slices": {
            name: {value: _numbers(counts.evaluate()) for value, counts in sorted(by_value.items())}
            for name, by_value in found.slices.items()
        },
    }


def render_evaluation(found: Evaluated) -> RenderableType:
    """The overall numbers, each label, the confusions and the slices."""
    from rich.console import Group

    overall = found.overall
    parts: list[Any] = [
        grid([
            job_row(found.job),
            ("rows", f"{overall.rows:,} with a gold label and a prediction"),
            ("accuracy", with_interval(overall.accuracy)),
            ("macro F1", with_interval(overall.macro_f1)),
            ("weighted F1", f"{overall.weighted_f1:.4f}"),
            ("calibration", f"scores are {found.calibration.error:.4f} off the accuracy, on average"),
            ("left out", f"{found.without_gold:,} rows without a gold label, "
                         f"{found.without_prediction:,} error rows"),
        ])
    ]  # fmt: skip
    parts += [plain(""), label_table(overall.by_label, "rows")]
    if len(overall.labels) <= SHOWN_LABELS:
        parts += [
            plain(""),
            plain("gold label, down; predicted label, across"),
            _confusion(overall),
        ]
    for name, by_value in found.slices.items():
        evaluated = {value: counts.evaluate() for value, counts in by_value.items()}
        rows = {value: (it.rows, it.accuracy) for value, it in evaluated.items()}
        parts += [plain(""), slice_table(name, "accuracy", rows)]
    return Group(*parts)


def _confusion(overall: Evaluation) -> Any:
    table = columns("", *overall.labels)
    for label, row in zip(overall.labels, overall.confusion.tolist(), strict=True):
        table.add_row(plain(label), *(f"{n:,}" for n in row))
    return table


def _numbers(it: Evaluation) -> dict[str, Any]:
    return {
        "rows": it.rows,
        "accuracy": it.accuracy.to_json(),
        "macro_f1": it.macro_f1.to_json(),
        "weighted_f1": it.weighted_f1,
        "labels": label_numbers(it.by_label, "rows"),
        "confusion": {"labels": list(it.labels), "rows": it.confusion.tolist()},
    }  # fmt: skip


# -- what evaluations of entities show in the same way


def about_job(job: Job) -> dict[str, Any]:
    """The job whose output was evaluated, for `--json`."""
    return {"job": job.id, "output": job.output, "model": job.spec.model.model_dump()}


def job_row(job: Job) -> tuple[str, str]:
    """The same for people: a row of `grid`."""
    return "job", f"{job.id} in {job.output}"


def label_table(scores: Iterable[LabelScores], counted: str) -> Any:
    """A row for each label; `counted` says what its support counts: rows or entities."""
    table = columns("label", "precision", "recall", "F1", counted)
    for s in scores:
        numbers = (f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}", f"{s.support:,}")
        table.add_row(plain(s.label), *numbers)
    return table


def label_numbers(scores: Iterable[LabelScores], counted: str) -> list[dict[str, Any]]:
    """The same for `--json`."""
    return [
        {"label": s.label, "precision": s.precision, "recall": s.recall, "f1": s.f1,
         counted: s.support}
        for s in scores
    ]  # fmt: skip


def slice_table(name: str, measure: str, rows: Mapping[str, tuple[int, Interval]]) -> Any:
    """A row for each value of the column `name`: its rows, and the measure with its interval."""
    table = columns(name, "rows", measure, "95 % interval")
    for value, (count, it) in sorted(rows.items()):
        table.add_row(
            plain(value), f"{count:,}", f"{it.value:.4f}", f"{it.low:.4f} to {it.high:.4f}"
        )
    return table


def with_interval(it: Interval) -> str:
    return f"{it.value:.4f}, 95 % interval {it.low:.4f} to {it.high:.4f}"
