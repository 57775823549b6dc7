"""In whatever batch a row lands, its answer is what the pipeline says of the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from tests.unit.tiny_models import CONFIGS, TEXTS, TinyModels, answers
from workers.tasks.text_classification import TextClassification

PACKED = sorted(set(CONFIGS) - {"mpnet"})


def load(path: str, **params: Any) -> TextClassification:
    task = TextClassification()
    task.load(LoadRequest(path, "cpu", "float32", 512, params))
    return task


def pipeline_scores(path: str, texts: list[Any], **options: Any) -> list[dict[str, float]]:
    """Each row by itself, a score for every label."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=path, tokenizer=path, device="cpu")
    return [
        {
            s["label"]: s["score"]
            for s in classify(text, top_k=None, truncation=True, max_length=512, **options)
        }
        for text in texts
    ]


def assert_same(rows: list[dict[str, Any]], expected: list[dict[str, float]]) -> None:
    for row, scores in zip(rows, expected, strict=True):
        assert row["predicted_label"] == max(scores, key=lambda label: scores[label])
        found = {s["label"]: s["score"] for s in row["scores"]}
        assert found == pytest.approx(scores, abs=1e-5)
        assert row["score"] == pytest.approx(max(scores.values()), abs=1e-5)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_answers_as_the_pipeline_does_row_by_row(
    family: str, tiny: TinyModels
) -> None:
    path = tiny(family, "SequenceClassification", num_labels=3)
    task = load(path, scores=True)

    assert task.padded == (family not in PACKED), "a family took another way than it should"
    assert_same(answers(task, TEXTS, budget=2048), pipeline_scores(path, TEXTS))


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_an_answer_does_not_depend_on_its_batch(family: str, budget: int, tiny: TinyModels) -> None:
    task = load(tiny(family, "SequenceClassification", num_labels=3), scores=True)
    rows = answers(task, TEXTS, budget=budget)
    alone = [answers(task, [text], budget=512)[0] for text in TEXTS]
    for row, single in zip(rows, alone, strict=True):
        assert row["predicted_label"] == single["predicted_label"]
        assert row["score"] == pytest.approx(single["score"], abs=1e-5)


@pytest.mark.parametrize("family", ["bert", "electra", "roberta"])
def test_pairs_are_scored_as_pairs(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "SequenceClassification", num_labels=3)
    firsts, seconds = TEXTS, list(reversed(TEXTS))
    expected = pipeline_scores(
        path, [{"text": a, "text_pair": b} for a, b in zip(firsts, seconds, strict=True)]
    )
    assert_same(answers(load(path, scores=True), firsts, pairs=seconds), expected)


@pytest.mark.parametrize(
    ("config", "params", "function"),
    [
        ({"num_labels": 1}, {}, "sigmoid"),
        ({"num_labels": 1, "problem_type": "regression"}, {}, "none"),
        ({"num_labels": 3, "problem_type": "regression"}, {}, "none"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, {}, "sigmoid"),
        ({"num_labels": 3}, {"multi_label": True}, "sigmoid"),
        (
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            {"multi_label": False},
            "softmax",
        ),
    ],
)
def test_scores_are_made_as_the_model_or_the_parameters_say(
    config: dict[str, Any], params: dict[str, Any], function: str, tiny: TinyModels
) -> None:
    path = tiny("bert", "SequenceClassification", **config)
    expected = pipeline_scores(path, TEXTS, function_to_apply=function)
    assert_same(answers(load(path, **({"scores": True} | params)), TEXTS), expected)
    if not params:
        assert pipeline_scores(path, TEXTS) == expected, "the model's own word is another"


def test_scores_come_only_on_request_or_where_labels_are_independent(tiny: TinyModels) -> None:
    plain = tiny("bert", "SequenceClassification", num_labels=3)
    names = [field.name for field in load(plain).columns()]
    assert names == ["predicted_label", "score"]
    multi = load(plain, multi_label=True).columns()
    assert [field.name for field in multi] == ["predicted_label", "score", "scores"]


def test_rows_cut_by_max_length_say_so(tiny: TinyModels) -> None:
    task = load(tiny("bert", "SequenceClassification", num_labels=3))
    exact, longer = "the " * 510, "the " * 511
    encoded = task.encode([exact, longer, "the"])
    assert encoded.truncated.tolist() == [False, True, False]
    assert encoded.lengths.tolist() == [512, 512, 3]


def test_encoding_on_threads_gives_the_same_ids(tiny: TinyModels) -> None:
    from concurrent.futures import ThreadPoolExecutor

    task = load(tiny("bert", "SequenceClassification", num_labels=3))
    with ThreadPoolExecutor(4) as threads:
        many = list(threads.map(task.encode, [TEXTS] * 16))
    assert all(np.array_equal(one.ids, many[0].ids) for one in many)
