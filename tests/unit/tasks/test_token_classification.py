"""Entities as transformers' own pipeline gives them, in whatever batch a row lands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError
from tests.unit.tiny_models import LABELS, TEXTS, TinyModels, answers
from workers.tasks.token_classification import AGGREGATIONS, TokenClassification


@pytest.fixture
def model(tiny: TinyModels) -> str:
    return tiny("bert", "TokenClassification", id2label=LABELS)


def load(path: str, **params: Any) -> TokenClassification:
    task = TokenClassification()
    task.load(LoadRequest(path, "cpu", "float32", None, params))
    return task


def pipeline_entities(path: str, aggregation: str) -> list[list[dict[str, Any]]]:
    from transformers import pipeline

    find = pipeline(
        "token-classification",
        model=path,
        tokenizer=path,
        device="cpu",
        aggregation_strategy=aggregation,
    )
    return [find(text) for text in TEXTS]


def assert_same(rows: list[dict[str, Any]], expected: list[list[dict[str, Any]]]) -> None:
    for text, row, found in zip(TEXTS, rows, expected, strict=True):
        ours, theirs = row["entities"], found
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one["label"] == other.get("entity_group", other.get("entity"))
            assert (one["start"], one["end"]) == (other["start"], other["end"])
            assert one["score"] == pytest.approx(float(other["score"]), abs=1e-5)
            assert one["text"] == text[one["start"] : one["end"]]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_entities_are_those_of_the_pipeline(aggregation: str, model: str) -> None:
    expected = pipeline_entities(model, aggregation)
    assert any(expected), "a model that finds nothing proves nothing"
    assert_same(answers(load(model, aggregation=aggregation), TEXTS), expected)


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert", "roberta", "qwen2"])
def test_other_families_find_the_same_entities(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "TokenClassification", id2label=LABELS)
    assert_same(answers(load(path), TEXTS), pipeline_entities(path, "simple"))


def test_offsets_count_characters_of_the_text_as_it_was_written(model: str) -> None:
    task = load(model)
    text = "😀😀 Anna שלום Berlin"
    spans = task.encode([text]).extra
    assert spans is not None
    words = [text[start:stop] for start, stop in spans[0].offsets if stop]
    assert words[:2] == ["😀😀", "Anna"]
    assert words[-1] == "Berlin"


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("the " * 600, False),  # cut between two words
        ("the " * 509 + "unhappy", True),  # un|##happ|##y: only the first piece fits
        ("the " * 507 + "unhappy", False),  # fits to the end
        ("x" * 300, False),  # one unknown word, not truncated
    ],
)
def test_a_word_cut_by_truncation_is_reported(text: str, cut: bool, model: str) -> None:
    assert answers(load(model), [text])[0]["cut_word"] is cut


def test_a_row_without_entities_has_an_empty_list(tiny: TinyModels) -> None:
    path = tiny("bert", "TokenClassification", id2label={0: "O", 1: "B-X"})
    task = load(path)
    batch = task.encode(["the weather"])
    quiet = np.tile(np.array([[5.0, -5.0]], dtype=np.float32), (len(batch.ids), 1))
    assert task.decode(batch, quiet).to_pylist() == [{"entities": [], "cut_word": False}]


def test_an_unknown_aggregation_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="none, simple, first, average, max"):
        load(model, aggregation="best")
