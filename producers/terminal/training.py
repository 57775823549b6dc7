"""A training in words: its split before it begins, its scores at the end."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.process.numbers import duration, plural
from producers.terminal.console import Piece
from producers.training.prepare import Checked
from schemas.records.training import TRAIN, VALIDATION, TrainingResult

MOST = 12


def split_lines(checked: Checked) -> Iterator[str]:
    """The rows, the split and the labels in a few lines."""
    split, labels = checked.split, checked.labels
    repeats = "row repeats" if split.repeated == 1 else "rows repeat"
    repeated = f"; {split.repeated:,} {repeats} an earlier text" if split.repeated else ""
    yield (
        f"{plural(len(split.sides), 'row')}: {split.count(TRAIN):,} to train on, "
        f"{split.count(VALIDATION):,} for validation, no text on both sides{repeated}"
    )
    if labels.problem == "regression":
        yield f"numbers of {checked.spec.label_column!r} (regression)"
        return
    names = checked.spec.shown_labels
    shown = [f"{name} {labels.counts.get(name, 0):,}" for name in names[:MOST]]
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    kinds = {"multi_label": " (several per row)", "entities": " of entities"}
    yield f"{plural(len(names), 'label')}{kinds.get(labels.problem, '')}: {', '.join(shown)}{more}"


def result_lines(result: TrainingResult, model: str) -> Iterator[tuple[Piece, ...]]:
    """Scores, steps and where the model is."""
    names = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "r2": "R²", "accuracy": "accuracy",
             "f1": "F1 of entities", "precision": "precision", "recall": "recall",
             "mean_absolute_error": "mean absolute error", "calibration_error": "calibration error"}  # fmt: skip
    told = [
        f"{name} {result.scores[key]:.4f}" for key, name in names.items() if key in result.scores
    ]
    rows = result.rows.get(VALIDATION, 0)
    if told:
        yield (f"  scores  {', '.join(told)} on {plural(rows, 'validation row')}",)
    stopped = ", stopped early" if result.stopped_early else ""
    yield (
        f"  trained {result.epochs:g} epochs, {plural(result.steps, 'step')} (best {result.best_step:,})"
        f"{stopped}, {result.rows_per_s:,.0f} rows/s in {duration(result.seconds)}",
    )
    yield (f"  model   {model}",)
