"""How good predictions are, from logits and targets alone. Pure: NumPy in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.records.training import ClassScore, Problem

BINS = 15
"""Of the calibration error. Source: Guo et al., On Calibration of Modern Neural Networks, 2017."""
_TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(10.0), 101))


@dataclass(frozen=True, slots=True)
class Scores:
    """Numbers by name, and those of each label."""

    numbers: dict[str, float]
    classes: tuple[ClassScore, ...] = ()


def score(
    problem: Problem, logits: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]
) -> Scores:
    """What the logits (`[rows, labels]`) are worth against the targets of the same rows."""
    if problem == "regression":
        return _regression(logits.reshape(-1).astype(np.float64), targets.astype(np.float64))
    if problem == "multi_label":
        return _multi_label(logits, targets > 0.5, labels)
    return _single_label(logits, targets, labels)


def _single_label(logits: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]) -> Scores:
    predicted = logits.argmax(-1)
    size = len(labels)
    table = np.zeros((size, size), dtype=np.int64)
    np.add.at(table, (targets, predicted), 1)
    classes = class_scores(labels, table.sum(1), table.sum(0), np.diag(table))
    log_odds = log_softmax(logits)
    return Scores(
        {
            "accuracy": float((predicted == targets).mean()),
            "macro_f1": _macro_f1(classes),
            "loss": float(-log_odds[np.arange(len(targets)), targets].mean()),
            "calibration_error": calibration_error(logits, targets),
        },
        classes,
    )


def _multi_label(logits: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]) -> Scores:
    predicted = logits > 0
    right = (predicted & targets).sum(0)
    classes = class_scores(labels, targets.sum(0), predicted.sum(0), right)
    found, gold = int(predicted.sum()), int(targets.sum())
    losses = np.logaddexp(0, np.where(targets, -logits, logits))
    return Scores(
        {
            "accuracy": float((predicted == targets).all(1).mean()),
            "macro_f1": _macro_f1(classes),
            "micro_f1": 2 * int(right.sum()) / max(1, found + gold),
            "loss": float(losses.mean()),
        },
        classes,
    )


def _regression(predicted: np.ndarray, targets: np.ndarray) -> Scores:
    errors = predicted - targets
    spread = float(((targets - targets.mean()) ** 2).mean())
    mean_square = float((errors**2).mean())
    return Scores({
        "r2": 1.0 - mean_square / spread if spread else 0.0,
        "mean_absolute_error": float(np.abs(errors).mean()),
        "root_mean_squared_error": mean_square**0.5,
        "loss": mean_square,
    })  # fmt: skip


def class_scores(
    labels: tuple[str, ...], gold: np.ndarray, predicted: np.ndarray, right: np.ndarray
) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each label from its counts, int `[labels]` each."""

    def share(part: float, whole: float) -> float:
        return float(part / whole) if whole else 0.0

    return tuple(
        ClassScore(
            label=label, rows=int(g), precision=share(r, p), recall=share(r, g),
            f1=share(2 * r, g + p),
        )
        for label, g, p, r in zip(labels, gold, predicted, right, strict=True)
    )  # fmt: skip


def _macro_f1(classes: tuple[ClassScore, ...]) -> float:
    """The mean over the labels that the rows have, as in scikit-learn without `labels`."""
    seen = [c.f1 for c in classes if c.rows or c.precision]
    return sum(seen) / len(seen) if seen else 0.0


def calibration_error(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over 15 bins of equal width, by their rows."""
    odds = np.exp(log_softmax(logits))
    sure, right = odds.max(-1), logits.argmax(-1) == targets
    at = np.minimum((sure * BINS).astype(int), BINS - 1)
    off = [abs(sure[at == b].sum() - right[at == b].sum()) for b in range(BINS)]
    return float(sum(off) / max(1, len(targets)))


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The number by which logits are divided so that confidence is as often right as it says.

    The one of least cross-entropy between 0.1 and 10, to some 0.1 %.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    rows = np.arange(len(targets))

    def loss(temperature: float) -> float:
        return float(-log_softmax(logits / temperature)[rows, targets].mean())

    best = float(min(_TEMPERATURES, key=loss))
    near = best * np.exp(np.linspace(-0.05, 0.05, 101))
    return float(min(near, key=loss))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
