"""Text classification: one label per row, and on request a score for every label.

Columns:

- `predicted_label` dictionary<int32, string>: the label with the highest score
- `score` float32: its score
- `scores` list<struct<label: string, score: float32>>: all labels, in the order of their ids;
  with `{"scores": true}`, or where labels are independent (multi-label)

Parameters: `scores` (bool), `multi_label` (bool; absent: as the model says).

Scores are what transformers' `TextClassificationPipeline` makes of the logits: softmax; sigmoid
where labels are independent or there is only one; the logits themselves for a regression.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import (
    ComparableOutput,
    Encodings,
    LoadRequest,
)
from headrace.tasks.sentence_files import scoring_of
from schemas.errors import ModelError
from workers.models.load import check_labels, read_json
from workers.models.tokenizer import lower_case
from workers.tasks.transformer import TransformerTask

Activation = Literal["softmax", "sigmoid", "none"]
SCORES = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))


class TextClassification(TransformerTask):
    """See the module."""

    task = "text-classification"
    architecture = "ForSequenceClassification"
    output = "sequence"

    def auto_class(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def prepare(self, request: LoadRequest) -> None:
        multi = request.params.get("multi_label")
        asked = scoring_of(
            partial(read_json, request.model_path), self.config.to_dict(), request.model_path
        )
        if asked.lower_case:
            lower_case(self.tokenizer)
        self.activation = activation_of(self.config, multi, asked.activation)
        independent = self.config.problem_type == "multi_label_classification"
        self.with_scores = bool(request.params.get("scores")) or (
            independent if multi is None else multi
        )

    def check_width(self, request: LoadRequest) -> None:
        check_labels(request, self.config, self.width)
        self.labels = pa.array(
            [self.config.id2label[i] for i in range(self.config.num_labels)], pa.string()
        )

    def columns(self) -> list[pa.Field]:
        fields = [
            pa.field("predicted_label", pa.dictionary(pa.int32(), pa.string())),
            pa.field("score", pa.float32()),
        ]
        return [*fields, pa.field("scores", SCORES)] if self.with_scores else fields

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        scores = activate(self.numbers(batch, output), self.activation)
        best = scores.argmax(axis=1).astype(np.int32)
        arrays: list[pa.Array] = [
            pa.DictionaryArray.from_arrays(pa.array(best), self.labels),
            pa.array(scores[np.arange(len(scores)), best]),
        ]
        if self.with_scores:
            arrays.append(_score_lists(scores, self.labels))
        return pa.record_batch(arrays, schema=pa.schema(self.columns()))

    def answers(self, batch: Encodings, output: Any) -> ComparableOutput:
        """See `Comparable.answers`."""
        kind: dict[Activation, Any] = {"none": "values", "softmax": "labels"}
        numbers = activate(self.numbers(batch, output), self.activation)
        return ComparableOutput(kind.get(self.activation, "independent"), numbers)


def activation_of(config: Any, multi_label: bool | None, named: str | None = None) -> Activation:
    """The function from logits to scores; `multi_label` overrides what the model says.

    `named` is the activation that a cross-encoder's files name. With one label it decides; with
    several, Sigmoid makes them independent, and Identity leaves the pipeline's softmax.

    Raises:
        ModelError: a softmax over one label.

    Source: transformers 5.23, TextClassificationPipeline.postprocess
    """
    if multi_label is not None:
        return "sigmoid" if multi_label or config.num_labels == 1 else "softmax"
    if named == "Softmax" and config.num_labels == 1:
        raise ModelError("the model's files ask for a softmax over its one label, always 1")
    if named == "Sigmoid" or (named == "Identity" and config.num_labels == 1):
        return "sigmoid" if named == "Sigmoid" else "none"
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def activate(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """Scores float32 `[rows, labels]`."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        with np.errstate(over="ignore"):  # exp(89) is inf in float32, and 1 / inf is the right 0
            return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def _score_lists(scores: np.ndarray, labels: pa.Array) -> pa.Array:
    rows, width = scores.shape
    names = labels.take(pa.array(np.tile(np.arange(width), rows)))
    pairs = pa.StructArray.from_arrays(
        [names, pa.array(scores.reshape(-1))], names=["label", "score"]
    )
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pairs)
