"""Labels that a person names, scored as transformers' zero-shot pipeline scores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.candidate_labels import check_entailment, labels_of, settle
from headrace.tasks.contract import LoadRequest
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import ConfigError, InvalidRow, ModelError
from tests.unit.one_chunk import Marks, window
from tests.unit.tiny_models import CONFIGS, TEXTS, TinyModels
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.pipeline.tokenize import encode_rows
from workers.tasks.zero_shot_classification import ZeroShotClassification

NLI = {
    "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"},
    "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
}
LABELS = ["good", "bad", "a very long film", "New York", "Paris", "paris", "running, and play"]


def load(path: str, *, max_length: int | None = 512, **params: Any) -> ZeroShotClassification:
    if "candidate_labels" in params:
        params["candidate_labels"] = json.dumps(params["candidate_labels"])
    task = ZeroShotClassification()
    task.load(LoadRequest(path, "cpu", "float32", max_length, params))
    return task


def rows_of(
    task: ZeroShotClassification,
    texts: list[str],
    pairs: list[str] | None = None,
    budget: int = 2048,
) -> list[dict[str, Any]]:
    """As the pipeline of a chunk makes them."""
    encoded, bad = encode_rows(window(texts, 0), range(len(texts)), task) if pairs is None else (
        task.encode(texts, pairs), {})  # fmt: skip
    assert not bad
    engine = LoadedTask(task, Budget(budget), task.padded)
    found = score(encoded, np.arange(len(texts)), engine, Marks(), observe_nothing, ChunkStats())
    assert not found.faults
    return found.values.to_pylist()


def pipeline_of(path: str) -> Any:
    from transformers import pipeline

    return pipeline("zero-shot-classification", model=path, tokenizer=path, device="cpu")


def assert_same(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for row, wanted in zip(rows, expected, strict=True):
        assert [it["label"] for it in row["scores"]] == wanted["labels"]
        assert [it["score"] for it in row["scores"]] == pytest.approx(wanted["scores"], abs=1e-5)
        assert row["predicted_label"] == wanted["labels"][0]
        assert row["score"] == row["scores"][0]["score"]


SOME = [text for text in TEXTS if text]  # the pipeline refuses an empty text


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "llama"])
def test_scores_and_order_are_those_of_the_pipeline(
    family: str, multi_label: bool, tiny: TinyModels
) -> None:
    path = tiny(family, "SequenceClassification", **NLI)
    task = load(path, candidate_labels=LABELS, multi_label=multi_label)
    classify = pipeline_of(path)
    expected = [classify(text, LABELS, multi_label=multi_label) for text in SOME]
    assert_same(rows_of(task, SOME), expected)


@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_an_answer_does_not_depend_on_its_batch(budget: int, tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    task = load(path, candidate_labels=LABELS)
    alone = [rows_of(task, [text])[0] for text in TEXTS]
    assert_same(
        rows_of(task, TEXTS, budget=budget),
        [{"labels": [it["label"] for it in row["scores"]],
          "scores": [it["score"] for it in row["scores"]]} for row in alone],
    )  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        {0: "entailment", 1: "neutral", 2: "contradiction"},
        {0: "ENTAILMENT", 1: "not_entailment"},
        {0: "no", 1: "Entails"},
    ],
)
def test_entailment_is_found_by_its_name_wherever_it_is(
    names: dict[int, str], tiny: TinyModels
) -> None:
    ids = {name: at for at, name in names.items()}
    path = tiny("bert", "SequenceClassification", id2label=names, label2id=ids)
    classify = pipeline_of(path)
    for multi_label in (False, True):
        task = load(path, candidate_labels=LABELS, multi_label=multi_label)
        expected = [classify(text, LABELS, multi_label=multi_label) for text in SOME[-3:]]
        assert_same(rows_of(task, SOME[-3:]), expected)


def test_one_label_and_a_template_of_ones_own(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    classify = pipeline_of(path)
    template = "it was a {} day in {0}"
    with pytest.raises(ConfigError, match="hypothesis-template"):
        settle({"candidate_labels": "a", "hypothesis_template": template})
    for labels in (["good"], LABELS):
        task = load(path, candidate_labels=labels, hypothesis_template="the film is {0}!")
        expected = [classify(t, labels, hypothesis_template="the film is {0}!") for t in SOME]
        assert_same(rows_of(task, SOME), expected)


def test_each_row_may_have_labels_of_its_own(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    task = load(path, labels_column="labels")
    classify = pipeline_of(path)
    lists = [LABELS[at % 4 :] for at in range(len(SOME))]
    pairs = [json.dumps(it) if at % 2 else ", ".join(it[:1]) for at, it in enumerate(lists)]
    expected = [
        classify(t, it if at % 2 else it[:1])
        for at, (t, it) in enumerate(zip(SOME, lists, strict=True))
    ]
    assert_same(rows_of(task, SOME, pairs), expected)


def test_equal_pairs_are_one_item(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    task = load(path, labels_column="labels")
    found = task.encode(["the film", "the film", "a film"], ['["a", "b"]', "b,A", "a"])
    # a and A are the same tokens to this model
    assert len(found) == 3
    assert found.fan is not None
    assert found.fan.counts.tolist() == [2, 2, 1]


def test_labels_that_are_the_same_to_the_model_have_the_same_score(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    labels = ["Good", "film", "good", "GOOD"]
    row = rows_of(load(path, candidate_labels=labels), ["the weather"])[0]
    scores = {it["label"]: it["score"] for it in row["scores"]}
    assert scores["Good"] == scores["good"] == scores["GOOD"]
    assert_same([row], [pipeline_of(path)("the weather", labels)])


def test_five_thousand_labels_are_scored(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    labels = [f"good {at}" for at in range(5_000)]
    task = load(path, candidate_labels=labels)
    row = rows_of(task, ["a film"])[0]
    assert sorted(it["label"] for it in row["scores"]) == sorted(labels)
    assert sum(it["score"] for it in row["scores"]) == pytest.approx(1, abs=1e-4)
    assert task.count_items(["a", "b"], None).tolist() == [5_000, 5_000]


def test_only_labels_that_reach_the_threshold_are_written(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    every = rows_of(load(path, candidate_labels=LABELS, multi_label=True), TEXTS)
    limit = float(np.median([it["score"] for row in every for it in row["scores"]]))
    task = load(path, candidate_labels=LABELS, multi_label=True, threshold=limit)
    for row, whole in zip(rows_of(task, TEXTS), every, strict=True):
        assert row["scores"] == [it for it in whole["scores"] if it["score"] >= limit]
        assert row["score"] == whole["score"]
        assert row["predicted_label"] == (whole["predicted_label"] if row["scores"] else None)
    none = rows_of(load(path, candidate_labels=LABELS, threshold=1.1), ["a"])[0]
    assert (none["predicted_label"], none["scores"]) == (None, [])


def test_the_text_alone_is_cut_and_a_label_that_leaves_no_room_is_refused(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", **NLI)
    task = load(path, candidate_labels=["good", "a " * 12], hypothesis_template="{}", max_length=20)
    found = task.encode(["the weather is fine", "the " * 6])
    assert found.truncated.tolist() == [False, False, False, True]
    assert found.row_truncated.tolist() == [False, True]
    assert found.lengths.max() == 20
    with pytest.raises(ConfigError, match="leaves no room"):
        load(path, candidate_labels=["good", "a " * 20], max_length=20)
    alone = load(path, labels_column="labels", max_length=20)
    with pytest.raises(InvalidRow, match="leaves no room"):
        alone.encode(["the weather"], ["a " * 20])


# -- what is refused


@pytest.mark.parametrize(
    "value", ["", " , ", "a,,b", "a,b,a", '["a", null]', '["a", ""]', "[]", "[1]"]
)
def test_labels_that_cannot_be_right_are_refused(value: str) -> None:
    with pytest.raises(InvalidRow, match="label"):
        labels_of(value)
    with pytest.raises(ConfigError, match="candidate-labels"):
        settle({"candidate_labels": value})


def test_labels_come_from_a_file_with_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("sports, outdoors\n\n politics \n", encoding="utf-8")
    found = settle({"candidate_labels": str(file), "labels_column": None})
    assert json.loads(found["candidate_labels"]) == ["sports, outdoors", "politics"]
    assert settle(found) == found
    file.write_text("a\nb\na\n")
    with pytest.raises(ConfigError, match="2 times"):
        settle({"candidate_labels": str(file)})
    with pytest.raises(ConfigError, match="no file"):
        settle({"candidate_labels": "nowhere.txt"})


def test_labels_are_given_once() -> None:
    for params in ({}, {"candidate_labels": "a", "labels_column": "b"}):
        with pytest.raises(ConfigError, match="one of both"):
            settle(params)
    with pytest.raises(ConfigError, match="for the label"):
        settle({"candidate_labels": "a", "hypothesis_template": "about sports"})


def test_a_model_without_entailment_is_refused_with_its_labels(tiny: TinyModels) -> None:
    path = tiny("bert", "SequenceClassification", num_labels=3)
    config = json.loads((Path(path) / "config.json").read_text())
    with pytest.raises(ModelError, match="LABEL_0, LABEL_1, LABEL_2"):
        check_entailment({"config.json": config}.get, {}, path)
    with pytest.raises(ModelError, match="LABEL_0, LABEL_1"):
        check_entailment({}.get, {}, path)
    with pytest.raises(ModelError, match="LABEL_0"):
        load(path, candidate_labels=LABELS)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_pairs_are_joined_as_the_tokenizer_does(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "SequenceClassification", **NLI)
    task = load(path, candidate_labels=LABELS)
    assert task._pairs.joins
