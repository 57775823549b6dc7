"""Texts longer than the model, read in windows: entities as the pipeline's stride, lines combined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest
from headrace.tasks.fan_out import FanOut
from headrace.tasks.registry import load_task
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import ConfigError
from tests.unit.one_chunk import Marks
from tests.unit.tiny_models import LABELS, TEXTS, TinyModels
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.long_text import (
    FeatureExtractionInWindows,
    TextClassificationInWindows,
    TokenClassificationInWindows,
    combine,
)
from workers.tasks.text_classification import TextClassification

SHORT, LONG = "the weather is fine", "very long text with words of all kinds. " * 12
ROWS = [*TEXTS[:13], "Anna works at Acme in Berlin, and New York! " * 9, LONG]


def load(kind: Any, path: str, max_length: int | None = None, **params: Any) -> Any:
    task = kind()
    task.load(LoadRequest(path, "cpu", "float32", max_length, {"long_text": "window", **params}))
    return task


def rows_of(task: Any, texts: list[str], budget: int = 2048) -> list[dict[str, Any]]:
    encoded = task.encode(texts)
    engine = LoadedTask(task, Budget(budget), task.padded)
    found = score(encoded, np.arange(len(texts)), engine, Marks(), observe_nothing, ChunkStats())
    assert not found.faults
    assert found.values.schema.equals(pa.schema(task.columns()))
    assert not encoded.row_truncated.any()
    rows: list[dict[str, Any]] = found.values.to_pylist()
    return rows


@pytest.mark.parametrize("aggregation", ["simple", "first", "max"])
def test_entities_are_those_of_the_pipeline_with_a_stride(
    aggregation: str, tiny: TinyModels
) -> None:
    from transformers import AutoTokenizer, pipeline

    path = tiny("bert", "TokenClassification", id2label=LABELS)
    tokenizer = AutoTokenizer.from_pretrained(path, model_max_length=32)
    find = pipeline(
        "token-classification", model=path, tokenizer=tokenizer, stride=10, device="cpu",
        aggregation_strategy=aggregation,
    )  # fmt: skip
    task = load(TokenClassificationInWindows, path, 32, stride=10, aggregation=aggregation)
    for text, row in zip(ROWS, rows_of(task, ROWS), strict=True):
        wanted = find(text) if text else []
        assert [(it["label"], it["start"], it["end"]) for it in row["entities"]] == [
            (it["entity_group"], it["start"], it["end"]) for it in wanted
        ]
        scores = [it["score"] for it in row["entities"]]
        assert scores == pytest.approx([float(it["score"]) for it in wanted], abs=1e-5)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_label_is_of_the_logits_of_all_windows(how: str, tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", num_labels=3)
    task = load(TextClassificationInWindows, path, 32, stride=8, combine=how, scores=True)
    encoded = task.encode([LONG])
    assert len(encoded) > 3
    assert encoded.row_tokens[0] == len(encoded.ids)
    logits = task.forward(encoded)
    weights = encoded.lengths[:, None] / len(encoded.ids)
    line = (logits * weights).sum(axis=0) if how == "mean" else logits.max(axis=0)
    shares = np.exp(line - line.max()) / np.exp(line - line.max()).sum()
    (row,) = rows_of(task, [LONG])
    assert [it["score"] for it in row["scores"]] == pytest.approx(shares, abs=1e-5)
    assert row["predicted_label"] == f"LABEL_{shares.argmax()}"


@pytest.mark.parametrize("budget", [1, 100_000])
def test_a_short_text_is_what_it_is_without_windows(budget: int, tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", num_labels=3)
    windows = load(TextClassificationInWindows, path, 32)
    plain = load(TextClassification, path, 32)
    alone = plain.encode([SHORT])
    (wanted,) = plain.decode(alone, plain.forward(alone)).to_pylist()
    found = rows_of(windows, [LONG, SHORT, SHORT[:3]], budget)[1]
    assert found["predicted_label"] == wanted["predicted_label"]
    assert found["score"] == pytest.approx(wanted["score"], abs=1e-5)


def test_a_vector_is_the_mean_by_tokens_and_of_length_one_where_the_model_wants_it(
    tiny: TinyModels,
) -> None:
    path = tiny("bert", "")
    task = load(FeatureExtractionInWindows, path, 32, normalize=False)
    (whole,) = rows_of(task, [LONG])
    encoded = task.encode([LONG])
    vectors = task.forward(encoded)
    mean = (vectors * encoded.lengths[:, None]).sum(axis=0) / len(encoded.ids)
    assert whole["embedding"] == pytest.approx(mean.tolist(), abs=1e-5)
    unit = rows_of(load(FeatureExtractionInWindows, path, 32, normalize=True), [LONG, SHORT])
    assert [np.linalg.norm(row["embedding"]) for row in unit] == pytest.approx([1, 1], abs=1e-5)
    plain = load(FeatureExtraction, path, 32, normalize=True)
    alone = plain.encode([SHORT])
    assert unit[1]["embedding"] == pytest.approx(plain.forward(alone)[0].tolist(), abs=1e-5)


def test_lines_are_combined_row_by_row() -> None:
    fan = FanOut(np.array([0, 2, 3]), np.array([2, 0, 1]))
    numbers, tokens = np.array([[1, 4], [5, 6], [3, 0]], np.float32), np.array([1, 9, 3])
    assert combine(fan, numbers, tokens).tolist() == [[2.5, 1.0], [5, 6]]
    assert combine(fan, numbers, tokens, by_maximum=True).tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        ("text-classification", {"stride": 8}, "--stride has no meaning without --long-text"),
        ("feature-extraction", {"combine": "max"}, "--combine has no meaning without"),
        ("text-classification", {"long_text": "window", "stride": -1}, "--stride -1"),
        ("token-classification", {"long_text": "window", "aggregation": "none"}, "entities"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    task: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        task_spec(task).resolve(given)


def test_the_task_for_windows_is_found_by_the_parameters(tiny: TinyModels) -> None:
    assert isinstance(load_task("text-classification"), TextClassification)
    task = load_task("text-classification", params={"long_text": "window"})
    assert isinstance(task, TextClassificationInWindows)
    with pytest.raises(ConfigError, match="less than the 30 tokens of a window"):
        load(TextClassificationInWindows, tiny("bert", "SequenceClassification"), 32, stride=30)
