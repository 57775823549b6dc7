"""Rows with settings of their own: each answer is that of a job with these settings for all rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest
from headrace.tasks.generation.engines import engine_named, with_form
from headrace.tasks.generation.row_settings import own_settings
from headrace.tasks.generation.settings import settings_of
from schemas.errors import ConfigError, InvalidRow
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.engine_runs import Events
from tests.unit.generation.peaked import examples, save_peaked, words_of
from workers.engines.generating.base import Answer, GeneratingEngine
from workers.tasks.generation import TextGeneration

BY_ROW = {"row_settings_column": "settings"}
PROMPTS = [words_of(prompt) for prompt, _ in examples(6, 4)]
OWN: tuple[dict[str, Any], ...] = (
    {"max_new_tokens": 3},
    {"max_new_tokens": 11},
    {"temperature": 1.4, "seed": 5, "max_new_tokens": 9},
    {"temperature": 1.4, "seed": 6, "max_new_tokens": 7, "top_p": 0.8, "top_k": 12},
    {"temperature": 0, "max_new_tokens": 8},
    {"max_new_tokens": 12, "stop": ["w1", "n2"]},
    {},
)


def loaded(
    folder: Path, make: Callable[[str], GeneratingEngine] | None = None, family: str = "llama",
    **params: Any,
) -> TextGeneration:  # fmt: skip
    if not (folder / "config.json").exists():
        save_peaked(folder, family)
    task = TextGeneration() if make is None else TextGeneration(make)
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params, engine="transformers"))
    return task


def answers_of(task: TextGeneration, own: list[dict[str, Any]]) -> list[Answer]:
    """The answers to the prompts with these settings, all together."""
    texts = [PROMPTS[at % len(PROMPTS)] for at in range(len(own))]
    rows = task.encode(texts, [json.dumps(it) for it in own])
    found = {it.row: it for it in task.generate(rows, Events(), 1 << 20)}
    return [found[row] for row in range(len(own))]


@pytest.mark.parametrize("family", ["llama", "mistral"])  # rows join, and rows do not
def test_each_answer_is_that_of_a_job_with_these_settings(family: str, tmp_path: Path) -> None:
    task = loaded(tmp_path, family=family, max_new_tokens=6, **BY_ROW)
    own = [*OWN, *OWN[::-1]]
    found = answers_of(task, own)
    for at, (answer, settings) in enumerate(zip(found, own, strict=True)):
        asked = {"max_new_tokens": 6} | settings
        if isinstance(asked.get("stop"), list):
            asked["stop"] = json.dumps(asked["stop"])
        alone = loaded(tmp_path, **asked)
        (wanted,) = alone.forward(alone.encode([PROMPTS[at % len(PROMPTS)]]))
        assert (answer.text, answer.finish_reason) == (wanted.text, wanted.finish_reason)
        assert answer.n_generated == wanted.n_generated <= asked["max_new_tokens"]
    lengths = {it.n_generated for it in found if it.finish_reason == "length"}
    assert len(lengths) > 1


def test_samples_of_a_row_have_its_settings(tmp_path: Path) -> None:
    own = {"temperature": 1.4, "seed": 5, "max_new_tokens": 7}
    (found,) = answers_of(loaded(tmp_path, num_samples=3, **BY_ROW), [own])
    alone = loaded(tmp_path, num_samples=3, **own)
    (wanted,) = alone.forward(alone.encode(PROMPTS[:1]))
    assert [it.text for it in found.samples] == [it.text for it in wanted.samples]
    with pytest.raises(InvalidRow, match="would be equal"):
        loaded(tmp_path, num_samples=3, **BY_ROW).encode(["w1"], ['{"max_new_tokens": 4}'])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"num_beams": 2}', "'num_beams' is no setting of a row"),
        ('{"temperature": "hot"}', '"hot", no float'),
        ('{"max_new_tokens": true}', "true, no int"),
        ('{"max_new_tokens": 4, "temperature": -1}', "--temperature"),
        ('{"max_new_tokens": 0}', "at least 1"),
        ('{"max_new_tokens": 64}', "room for 64 tokens, and 64 new ones"),
        ('{"max_new_tokens": 62}', "room for 2"),
        ('{"max_new_tokens": 4, "stop": [""]}', "--stop"),
        ("{}", "neither the row nor the model says how long"),
    ],
)
def test_settings_that_cannot_be_used_are_an_error_of_their_row(
    own: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRow, match=words):
        loaded(tmp_path, **BY_ROW).encode(["w1 w2 w3"], [own])


def test_a_stop_text_beside_beams_is_an_error_of_its_row(tmp_path: Path) -> None:
    task = loaded(tmp_path, max_new_tokens=5, num_beams=2, **BY_ROW)
    with pytest.raises(InvalidRow, match="beams"):
        task.encode(["w1"], ['{"stop": "w2"}'])
    with pytest.raises(InvalidRow, match="sampling"):
        task.encode(["w1"], ['{"temperature": 1.0}'])


def test_nulls_and_an_empty_text_are_no_settings() -> None:
    assert own_settings('{"seed": null, "top_p": 1}') == {"top_p": 1.0}
    assert own_settings(" ") == {}


def test_an_engine_that_writes_all_alike_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--row-settings-column"):
        loaded(tmp_path, lambda name: EchoEngine(), max_new_tokens=5, **BY_ROW)
    with pytest.raises(ConfigError, match="--engine ctranslate2 writes all answers"):
        with_form(engine_named("ctranslate2"), BY_ROW)
    assert with_form(engine_named("transformers"), BY_ROW).name == "transformers"


def test_a_job_needs_no_length_where_rows_say_it() -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 2}
    found = settings_of("text-generation", {"config.json": config}.get, BY_ROW, "M")
    assert not found.states_length
    assert found.most_new_tokens == 256
