"""An evaluation, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.quality.classification import Evaluation
from producers.quality.gold import Evaluated
from producers.quality.intervals import Interval
from producers.terminal.console import columns, grid, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_LABELS = 30
"""Chosen: a longer confusion table fits no terminal; `--json` has all of it."""


def as_json(found: Evaluated) -> dict[str, Any]:
    """The object of `--json`: every number, the whole confusion table."""
    return {
        "job": found.job.id,
        "output": found.job.output,
        "model": found.job.spec.model.model_dump(),
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
            ("job", f"{found.job.id} in {found.job.output}"),
            ("rows", f"{overall.rows:,} with a gold label and a prediction"),
            ("accuracy", _shown(overall.accuracy)),
            ("macro F1", _shown(overall.macro_f1)),
            ("weighted F1", f"{overall.weighted_f1:.4f}"),
            ("calibration", f"scores are {found.calibration.error:.4f} off the accuracy, on average"),
            ("left out", f"{found.without_gold:,} rows without a gold label, "
                         f"{found.without_prediction:,} error rows"),
        ])
    ]  # fmt: skip
    by_label = columns("label", "precision", "recall", "F1", "rows")
    for scores in overall.by_label:
        by_label.add_row(
            plain(scores.label), f"{scores.precision:.4f}", f"{scores.recall:.4f}",
            f"{scores.f1:.4f}", f"{scores.support:,}",
        )  # fmt: skip
    parts += [plain(""), by_label]
    if len(overall.labels) <= SHOWN_LABELS:
        parts += [
            plain(""),
            plain("gold label, down; predicted label, across"),
            _confusion(overall),
        ]
    for name, by_value in found.slices.items():
        table = columns(name, "rows", "accuracy", "95 % interval")
        for value, counts in sorted(by_value.items()):
            it = counts.evaluate()
            low, high = it.accuracy.low, it.accuracy.high
            table.add_row(
                plain(value), f"{it.rows:,}", f"{it.accuracy.value:.4f}", f"{low:.4f} to {high:.4f}"
            )
        parts += [plain(""), table]
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
        "labels": [
            {"label": s.label, "precision": s.precision, "recall": s.recall, "f1": s.f1,
             "rows": s.support}
            for s in it.by_label
        ],
        "confusion": {"labels": list(it.labels), "rows": it.confusion.tolist()},
    }  # fmt: skip


def _shown(it: Interval) -> str:
    return f"{it.value:.4f}, 95 % interval {it.low:.4f} to {it.high:.4f}"
