"""Answers of a given form: what `generate` writes with the same mask, and typed columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.coordination.attempts import SuspectRows
from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.structured.byte_models import SCHEMA, byte_tokenizer, save_byte_model
from tests.unit.one_chunk import ListSink, Marks, observe_nothing, run_source, source
from workers.batching.packing import Budget
from workers.engines.stepwise.mask import GrammarMask
from workers.pipeline.loaded_task import LoadedTask
from workers.tasks.generation import GenerationTask, Text2TextGeneration, TextGeneration

TEXTS = ["good tea", "cold and late", "so", "I would come again"]
PROPERTIES: tuple[str, ...] = ("mood", "stars", "tags", "note")
FORM = {"json_schema": json.dumps(SCHEMA), "max_new_tokens": 60}


def task_of(folder: Path, family: str, **params: Any) -> GenerationTask:
    save_byte_model(folder, family)
    kind = Text2TextGeneration if family in ("t5", "bart") else TextGeneration
    task = kind()
    task.load(
        LoadRequest(str(folder), "cpu", "float32", None, FORM | params, engine="transformers")
    )
    return task


def rows_of(task: GenerationTask, texts: list[Any], **more: Any) -> list[dict[str, Any]]:
    sink = ListSink()
    loaded = LoadedTask(task, Budget(1 << 20), padded=True)
    run_source(source(texts, 8), loaded, sink, observe_nothing, Marks(), **more)
    return sink.rows


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_greedy_text_is_that_of_generate_with_the_same_mask(family: str, tmp_path: Path) -> None:
    task = task_of(tmp_path, family)
    wanted = [_generated(task, text) for text in TEXTS]
    for most in (1, 8):
        task.engine._most_rows = most  # type: ignore[attr-defined]
        rows = rows_of(task, TEXTS)
        assert [row["generated_text"] for row in rows] == wanted
    assert {row["parse_error"] for row in rows} == {None}
    for row, text in zip(rows, wanted, strict=True):
        found = json.loads(text)
        assert {name: row[name] for name in PROPERTIES} == found
        assert row["finish_reason"] == "stop"
    assert len(set(wanted)) > 2


def _generated(task: Any, text: str) -> str:
    """What `generate` makes of this row alone, with llguidance as its only processor."""
    import torch

    ids = torch.tensor([task.tokenizer(text)["input_ids"]])
    model, engine = task.engine.model, task.engine
    is_pair = model.config.is_encoder_decoder
    given = 1 + (model.config.model_type == "bart") if is_pair else ids.shape[1]
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=60,
        logits_processor=[GrammarMask(engine._grammar, given)],
    )[0]  # fmt: skip
    return str(task.tokenizer.decode(out[0 if is_pair else given :], skip_special_tokens=True))


@pytest.mark.parametrize("temperature", [0.0, 1.4])
def test_rows_that_are_held_back_have_the_same_answers(temperature: float, tmp_path: Path) -> None:
    """A retry that searches for the row that killed a worker: suspects run alone, after the others."""
    task = task_of(tmp_path, "llama", temperature=temperature, seed=4)
    plain = rows_of(task, TEXTS)
    suspicion = SuspectRows(groups=((1, 2),), poison={3: "worker_lost"})
    again = rows_of(task, TEXTS, suspicion=suspicion)
    for name in ("generated_text", *PROPERTIES):
        assert [row[name] for row in again[:3]] == [row[name] for row in plain[:3]]
    assert all(json.loads(row["generated_text"]) for row in plain)


def test_a_row_that_is_cut_has_its_text_and_the_reason(tmp_path: Path) -> None:
    whole = rows_of(task_of(tmp_path, "llama"), TEXTS)
    lengths = sorted(row["n_generated"] for row in whole)
    most = lengths[-1] - 2
    rows = rows_of(task_of(tmp_path, "llama", max_new_tokens=most), TEXTS)
    cut = [row for row in rows if row["parse_error"] is not None]
    assert 0 < len(cut) < len(rows)
    for row in cut:
        assert row["status"] == "ok"
        assert row["finish_reason"] == "length"
        assert row["generated_text"].startswith("{")
        assert row["parse_error"].startswith(f"cut after {most} tokens: ")
        assert [row[name] for name in PROPERTIES] == [None] * len(PROPERTIES)
    kept = [row for row in rows if row["parse_error"] is None]
    assert [row["generated_text"] for row in kept] == [
        it["generated_text"] for it in whole if it["id"] in {row["id"] for row in kept}
    ]


def test_a_row_without_an_allowed_token_ends_with_its_text(tmp_path: Path) -> None:
    """The vocabulary has no z, so that the choice cannot be finished."""
    save_byte_model(tmp_path, "llama")
    byte_tokenizer(without="z").save_pretrained(tmp_path)
    task = TextGeneration()
    params = {"choices": '["fizz", "buzz"]', "max_new_tokens": 9}
    task.load(LoadRequest(str(tmp_path), "cpu", "float32", None, params, engine="transformers"))
    rows = rows_of(task, TEXTS[:2])
    assert {row["generated_text"] for row in rows} <= {"fi", "bu"}
    assert {row["n_generated"] for row in rows} == {2}
    assert {row["finish_reason"] for row in rows} == {"length"}
    assert "is none of the choices" in rows[0]["parse_error"]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_text_is_one_of_the_choices(family: str, tmp_path: Path) -> None:
    choices = ["a", "ab", 'say "x"', "caf\u00e9 1", "{b}"]
    task = task_of(tmp_path, family, json_schema=None, choices=json.dumps(choices))
    rows = rows_of(task, TEXTS)
    assert {row["generated_text"] for row in rows} <= set(choices)
    assert {(row["finish_reason"], row["parse_error"]) for row in rows} == {("stop", None)}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_beams": 2}, "one beam"),
        ({"min_new_tokens": 3}, "min_new_tokens = 3.*give --min-new-tokens 0"),
    ],
)
def test_options_that_a_form_excludes_are_refused(
    params: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        task_of(tmp_path, "llama", **params)


def test_an_engine_that_follows_no_grammar_is_refused(tmp_path: Path) -> None:
    save_byte_model(tmp_path, "llama")
    request = LoadRequest(str(tmp_path), "cpu", "float32", None, FORM, engine="echo")
    with pytest.raises(ConfigError, match="engine echo cannot follow"):
        TextGeneration(lambda name: EchoEngine()).load(request)
