"""The training of a job that trains: how it learned, and how good the model is, label by label."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.process.numbers import (
    compact_number,
    compact_plural,
    exact_duration,
    percent_of,
)
from producers.report.facts import Facts
from producers.report.plot_canvas import ONE, TWO, Picture, canvas
from schemas.records.training import TrainingResult

RARE = 0.05
"""Share of the training rows under which a label is called rare."""
NAMES = {
    "f1": "F1 of entities", "accuracy": "accuracy", "macro_f1": "macro-F1", "micro_f1": "micro-F1", "r2": "R²",
    "mean_absolute_error": "mean absolute error",
    "root_mean_squared_error": "root mean squared error",
    "calibration_error": "calibration error", "loss": "loss",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingSection:
    """What the page shows of a training."""

    scores: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str, str, str, str, str], ...]
    """Label, training rows, validation rows, precision, recall, F1."""
    notes: tuple[str, ...]


def training_section(facts: Facts) -> TrainingSection | None:
    """The section of a finished training; None for other jobs."""
    result = facts.training
    if result is None:
        return None
    return TrainingSection(
        scores=tuple((NAMES.get(n, n), f"{v:.4f}") for n, v in result.scores.items()),
        facts=tuple(_facts(result)),
        labels=tuple(_labels(result)),
        notes=tuple(_notes(result)),
    )


def learning(facts: Facts) -> Picture | None:
    """The loss of the batches, and the loss on the validation rows, by step."""
    result = facts.training
    if result is None:
        return None
    trained = [(h["step"], h["loss"]) for h in result.history if "loss" in h]
    held_out = [(h["step"], h["validation_loss"]) for h in result.history if "validation_loss" in h]
    if len(trained) < 2:
        return None
    with canvas() as it:
        it.axes.plot(*zip(*trained, strict=True), color=ONE, linewidth=1.4)
        if held_out:
            it.axes.plot(*zip(*held_out, strict=True), color=TWO, marker="o", linewidth=1.4)
        it.mark(result.best_step, "best")
        it.axes.set_ylim(bottom=0)
        it.label("step", "loss")
        words = (
            f"Loss of the training batches, from {trained[0][1]:.2f} to {trained[-1][1]:.2f}; dots "
            "are the validation rows. Where they rise while the line falls, the model learns its "
            "rows by heart."
        )
        return it.picture("learning", "Learning curve", words)


def _facts(result: TrainingResult) -> list[tuple[str, str]]:
    spec, rows = result.spec, result.rows
    sides = ", ".join(f"{side} {compact_number(n)}" for side, n in rows.items())
    stopped = ", stopped early" if result.stopped_early else ""
    found = [
        ("base", result.base or "none: trained from scratch"),
        ("rows", f"{sides}; no text is on both sides"),
        ("epochs", f"{result.epochs:g} of {spec.epochs:g}{stopped}"),
        (
            "steps",
            f"{compact_number(result.steps)}, the best after {compact_number(result.best_step)}",
        ),
        (
            "speed",
            f"{compact_number(result.rows_per_s)} rows a second in {exact_duration(result.seconds)}",
        ),
        ("padding", percent_of(result.padding, result.padding + result.tokens)),
        ("learning rate", f"{spec.learning_rate:g}"),
        ("seed", str(spec.seed)),
    ]
    if spec.lora is not None:
        found.append(("LoRA", f"rank {spec.lora.rank}, alpha {spec.lora.alpha}, merged"))
    if result.temperature != 1:
        found.append(("temperature", f"{result.temperature:.3f}, part of the last layer"))
    if result.attempts > 1:
        found.append(("attempts", f"{result.attempts}, the last from step {result.resumed_from}"))
    return found


def _labels(result: TrainingResult) -> list[tuple[str, str, str, str, str, str]]:
    return [
        (
            c.label, compact_number(result.label_rows.get(c.label, 0)), compact_number(c.rows), f"{c.precision:.3f}",
            f"{c.recall:.3f}", f"{c.f1:.3f}",
        )
        for c in result.classes
    ]  # fmt: skip


def _notes(result: TrainingResult) -> list[str]:
    total = sum(result.label_rows.values())
    rare = [n for n, rows in result.label_rows.items() if total and rows / total < RARE]
    notes = []
    if rare:
        weighted = "" if result.spec.class_weights else " --class-weights balanced may help."
        verb = "has" if len(rare) == 1 else "have"
        notes.append(f"{', '.join(rare)} {verb} under 5 % of the training rows.{weighted}")
    held_out = result.rows.get("validation", 0)
    if held_out < 1_000:
        notes.append(f"The scores are from {compact_plural(held_out, 'row')} only, and uncertain.")
    return notes
