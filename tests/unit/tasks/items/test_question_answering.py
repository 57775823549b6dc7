"""Answers are those of the last transformers that has a pipeline for them, frozen beside this file.

`tests/oracles/question_answering.py` says how they were made.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import ConfigError, InvalidRow, ModelError
from tests.oracles.seeded_models import save_seeded
from tests.unit.one_chunk import Marks, window
from tests.unit.tiny_models import TinyModels
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.pipeline.tokenize import encode_rows
from workers.tasks.question_answering import QuestionAnswering, best_spans

FROZEN = json.loads(
    (Path(__file__).parent / "question_answering_4_57.json").read_text(encoding="utf-8")
)
OURS = {"handle_impossible_answer": "impossible", "doc_stride": "stride"}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("seeded")
    return cache(lambda family: str(save_seeded(root / family, family, "QuestionAnswering")))


def load(path: str, max_length: int | None = None, **params: Any) -> QuestionAnswering:
    task = QuestionAnswering()
    task.load(LoadRequest(path, "cpu", "float32", max_length, params))
    return task


def answers_of(
    task: QuestionAnswering, questions: list[str], contexts: list[str], budget: int = 2048
) -> dict[int, dict[str, Any]]:
    """By row; rows that are errors are missing."""
    rows = replace(window(contexts, 0), pairs=questions)
    encoded, bad = encode_rows(rows, range(len(contexts)), task)
    good = [row for row in range(len(contexts)) if row not in bad]
    if encoded is None:
        return {}
    engine = LoadedTask(task, Budget(budget), task.padded)
    found = score(encoded, np.arange(len(good)), engine, Marks(), observe_nothing, ChunkStats())
    assert not found.faults
    return dict(zip(good, found.values.to_pylist(), strict=True))


@pytest.mark.parametrize("case", FROZEN["cases"], ids=lambda case: str(case["options"]))
def test_answers_are_those_of_the_last_pipeline(case: dict[str, Any], seeded: Any) -> None:
    questions, contexts = (
        [it["text"] * it["times"] for it in FROZEN[name]] for name in ("questions", "contexts")
    )
    options = dict(case["options"])
    params = {OURS.get(name, name): value for name, value in options.items()}
    task = load(seeded(case["family"]), params.pop("max_seq_len", None), **params)
    rows = [(question, context) for question in questions for context in contexts]
    found = answers_of(task, [q for q, _ in rows], [c for _, c in rows])
    refused = {row for row, wanted in enumerate(case["expected"]) if isinstance(wanted, str)}
    assert refused == set(range(len(rows))) - found.keys()
    for row, answer in found.items():
        wanted = [it for it in case["expected"][row] if it["score"] > 0]
        assert [without_score(it) for it in answer["answers"]] == [*map(without_score, wanted)], row
        scores = [it["score"] for it in answer["answers"]]
        assert scores == pytest.approx([it["score"] for it in wanted], abs=1e-5)
        first = {"answer": "", "score": 0.0, "start": 0, "end": 0}
        assert {name: answer[name] for name in first} == (answer["answers"] or [first])[0]


def without_score(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("answer", "start", "end")}


@pytest.mark.parametrize("budget", [1, 100_000])
def test_an_answer_does_not_depend_on_its_batch(budget: int, seeded: Any) -> None:
    task = load(seeded("bert"), 48, question="who works in Berlin?", stride=8, top_k=3)
    texts = ["Anna works at Acme. " * 20, "the weather is fine", "Berlin"]
    whole = answers_of(task, [""] * 3, texts, budget)
    for row, text in enumerate(texts):
        alone = answers_of(task, [""], [text])[0]
        assert without_score(whole[row]) == without_score(alone)
        assert whole[row]["score"] == pytest.approx(alone["score"], abs=1e-5)


def test_a_question_that_is_too_long_is_refused_in_words_and_its_neighbours_are_not(
    seeded: Any,
) -> None:
    task = load(seeded("bert"), 48, stride=12)
    questions, contexts = ["good " * 40, "good?"], ["the weather " * 40] * 2
    assert answers_of(task, questions, contexts).keys() == {1}
    with pytest.raises(InvalidRow, match="the question has 40 tokens and leaves 5 of 48 for the"):
        task.encode(contexts[:1], questions[:1])
    # the same question beside a context that needs no windows
    assert answers_of(task, questions, ["one two", "one"]).keys() == {0, 1}


def test_every_token_of_a_long_context_is_in_a_window(seeded: Any) -> None:
    task = load(seeded("bert"), question="good?")
    assert task.max_length == 384  # as the pipeline has it, where the model takes more
    context = "one two three four five six seven " * 400
    encoded = task.encode([context])
    rows = [it.offsets[it.in_context] for it in encoded.extra or ()]
    seen = np.zeros(len(context), dtype=bool)
    for offsets in rows:
        seen[int(offsets[0, 0]) : int(offsets[-1, 1])] = True
    assert seen[:-1].all()
    assert int(np.sum(rows[0][:, 0] >= rows[1][0, 0])) == 128
    assert not encoded.row_truncated.any()


def test_spans_are_no_longer_than_asked_and_of_tokens_that_may_answer() -> None:
    start, end = np.zeros(6, np.float32), np.zeros(6, np.float32)
    start[2], end[5] = 9, 9
    may = np.array([True, False, True, True, True, True])
    long, short = (best_spans(start, end, may, 12, longest) for longest in (4, 3))
    assert (long.first[0], long.last[0]) == (2, 5)
    assert not ((short.first == 2) & (short.last == 5)).any()
    assert set(long.first) | set(long.last) <= {2, 3, 4, 5}
    assert (long.last >= long.first).all()
    assert (long.scores > 0).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of both"),
        ({"question": "why?", "question_column": "q"}, "one of both"),
        ({"question": " "}, "--question is empty"),
        ({"question": "why?", "top_k": 0}, "--top-k 0: at least 1"),
        ({"question": "why?", "stride": -1}, "--stride -1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        task_spec("question-answering").resolve(given)


def test_a_stride_of_a_whole_window_and_a_model_of_another_head_are_refused(
    seeded: Any, tiny: TinyModels
) -> None:
    with pytest.raises(ConfigError, match="less than the 48 tokens of a window"):
        load(seeded("bert"), 48, question="why?", stride=48)
    with pytest.raises(ModelError, match="ForQuestionAnswering"):
        load(tiny("bert", "SequenceClassification"), question="why?")
