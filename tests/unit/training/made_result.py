"""A record of a training, as a finished one leaves it."""

from __future__ import annotations

from typing import Any

from schemas.records.training import ClassScore, TrainingResult
from tests.unit.training.made_rows import made_spec


def made_result(**changes: Any) -> TrainingResult:
    given: dict[str, Any] = {
        "base": "/models/minilm", "base_revision": "sha256:12", "spec": made_spec(),
        "data_digest": "ab" * 16, "rows": {"train": 1_000, "unlabelled": 2, "validation": 100},
        "label_rows": {"negative": 970, "positive": 30}, "steps": 40, "best_step": 20,
        "epochs": 2.0, "stopped_early": True,
        "scores": {"accuracy": 0.97, "macro_f1": 0.8, "loss": 0.1, "calibration_error": 0.02},
        "classes": (
            ClassScore(label="negative", rows=97, precision=0.98, recall=0.99, f1=0.985),
            ClassScore(label="positive", rows=3, precision=0.7, recall=0.6, f1=0.65),
        ),
        "temperature": 1.5, "parameters": 1_000, "tokens": 9_000, "padding": 1_000,
        "seconds": 12.0, "rows_per_s": 160.0, "attempts": 2, "resumed_from": 10, "device": "cpu",
        "versions": {"torch": "2.13.0"},
        "history": (
            {"step": 10, "loss": 0.9}, {"step": 20, "loss": 0.5},
            {"step": 20, "validation_loss": 0.6, "validation_macro_f1": 0.8},
            {"step": 40, "loss": 0.2}, {"step": 40, "validation_loss": 0.7},
        ),
    }  # fmt: skip
    return TrainingResult(**given | changes)
