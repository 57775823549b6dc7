"""The trained model's predictions for the validation rows, as columns of the job's output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.records.training import TrainingSpec
from workers.pipeline.rows import Window
from workers.tasks.token_classification import ENTITY
from workers.training.entity_scores import found_entities
from workers.training.rows.labelled_rows import LabelledRows


def columns_of(spec: TrainingSpec) -> list[pa.Field]:
    """The columns that a training of this kind writes."""
    if spec.problem == "entities":
        return [pa.field("entities", pa.list_(ENTITY))]
    return [pa.field("predicted_label", pa.string()), pa.field("score", pa.float32())]


def predictions_of(rows: LabelledRows, logits: np.ndarray, spec: TrainingSpec) -> dict[int, Any]:
    """The prediction for each validation row, by its number: label and score, or entities.

    `logits` are of `rows.validation`.
    """
    if spec.problem == "entities":
        found = found_entities(rows, rows.validation, logits, spec)
        return dict(zip(rows.validation.tolist(), found, strict=True))
    told = (_told(row, spec) for row in logits)
    return dict(zip(rows.validation.tolist(), told, strict=True))


def predicted_columns(
    window: Window, first: int, predictions: dict[int, Any], spec: TrainingSpec
) -> dict[str, pa.Array]:
    """The columns for a window's rows; `first` is the number of its first row. Null: no prediction."""
    told = [predictions.get(first + i) for i in range(len(window))]
    if spec.problem == "entities":
        values = [
            None if spans is None else [_entity(span, score, str(text)) for span, score in spans]
            for spans, text in zip(told, window.texts, strict=True)
        ]
        return {"entities": pa.array(values, pa.list_(ENTITY))}
    return {
        "predicted_label": pa.array([None if t is None else t[0] for t in told], pa.string()),
        "score": pa.array([None if t is None else t[1] for t in told], pa.float32()),
    }


def _entity(span: tuple[str, int, int], score: float, text: str) -> dict[str, Any]:
    label, start, end = span
    return {"label": label, "start": start, "end": end, "score": score, "text": text[start:end]}


def _told(logits: np.ndarray, spec: TrainingSpec) -> tuple[str, float]:
    if spec.problem == "regression":
        return spec.labels[0], float(logits[0])
    best = int(logits.argmax())
    if spec.problem == "multi_label":
        return spec.labels[best], float(1 / (1 + np.exp(-logits[best])))
    odds = np.exp(logits - logits.max())
    return spec.labels[best], float(odds[best] / odds.sum())
