"""Batches whose lines a model answers: chats, completions, and lines that are not served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

from headrace.tasks.contract import LoadRequest
from tests.integration.gateway.conftest import House, MakeHouse
from tests.unit.generation.peaked import examples, save_peaked, words_of
from tests.unit.generation.structured.byte_models import save_byte_model
from workers.tasks.generation import TextGeneration

PROMPTS = [words_of(prompt) for prompt, _ in examples(5, 4)]
TEMPLATE = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}assistant :"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes, with a chat template."""
    folder = save_peaked(tmp_path_factory.mktemp("writer"), "llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def gate(make_house: MakeHouse, writer: Path) -> House:
    return make_house(gateway_models=f"writer={writer}")


def line(custom_id: str, endpoint: str = CHAT, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": custom_id, "method": "POST", "url": endpoint,
        "body": {"model": "writer", "max_tokens": 6, **body},
    }  # fmt: skip


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def alone(writer: Path, prompts: list[str], **params: Any) -> list[Any]:
    """The answers to rendered prompts, one after another."""
    task = TextGeneration()
    asked = {"max_new_tokens": 6, "chat": False, **params}
    task.load(LoadRequest(str(writer), "cpu", "float32", None, asked, engine="transformers"))
    return [task.forward(task.encode([prompt]))[0] for prompt in prompts]


def test_a_chat_is_answered_in_the_shape_of_openai(gate: House, writer: Path) -> None:
    client = gate.client()
    lines = [line(f"c{i}", messages=said(text)) for i, text in enumerate(PROMPTS)]
    lines.insert(2, line("odd", messages=said("w1"), tools=[{"type": "function"}]))
    lines.append(line("other", messages=said("w1"), n=2))
    lines.append(line("long", messages=said("w1 " * 100)))
    batch = gate.batch(client, lines, endpoint=CHAT)
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    assert found["request_counts"] == {"total": 8, "completed": 5, "failed": 3}
    answers = gate.lines(client, found["output_file_id"])
    assert [it["custom_id"] for it in answers] == [f"c{i}" for i in range(5)]
    wanted = alone(writer, [f"user : {text} assistant :" for text in PROMPTS])
    for answer, want in zip(answers, wanted, strict=True):
        body = ChatCompletion.model_validate(answer["response"]["body"], strict=True)
        (choice,) = body.choices
        assert (choice.message.content, choice.finish_reason) == (want.text, want.finish_reason)
        assert body.usage is not None
        assert body.usage.completion_tokens == want.n_generated
    assert answers[0]["response"]["body"]["usage"]["prompt_tokens"] == 4 + len(PROMPTS[0].split())
    errors = gate.lines(client, found["error_file_id"])
    assert [(it["custom_id"], it["error"]["code"]) for it in errors] == [
        ("odd", "unsupported_value"),
        ("other", "mismatched_n"),
        ("long", "invalid_row"),
    ]
    assert errors[0]["error"]["param"] == "body.tools"


def test_prompts_of_a_line_and_their_samples_are_choices_and_no_template_is_applied(
    gate: House, writer: Path
) -> None:
    client = gate.client()
    sampling = {"temperature": 1.5, "seed": 7, "n": 2}
    lines = [
        line("a", COMPLETIONS, prompt=PROMPTS[:3], **sampling),
        line("b", COMPLETIONS, prompt=PROMPTS[3], **sampling),
    ]
    batch = gate.batch(client, lines, endpoint=COMPLETIONS)
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    bodies = [
        Completion.model_validate(it["response"]["body"], strict=True)
        for it in gate.lines(client, found["output_file_id"])
    ]
    texts = [(choice.index, choice.text) for body in bodies for choice in body.choices]
    rows = alone(writer, PROMPTS[:4], temperature=1.5, seed=7, num_samples=2)
    wanted = [it for row in rows for it in row.samples]
    assert texts == list(zip([*range(6), 0, 1], [it.text for it in wanted], strict=True))
    usage = bodies[0].usage
    assert usage is not None
    assert usage.completion_tokens == sum(it.n_generated for it in rows[:3])
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_each_line_has_its_own_length_sampling_and_stop_texts(gate: House, writer: Path) -> None:
    client = gate.client()
    own: list[dict[str, Any]] = [
        {"max_tokens": 2}, {"max_tokens": 9}, {"temperature": 1.5, "seed": 1, "max_tokens": 8},
        {"temperature": 1.5, "seed": 2, "top_p": 0.9}, {"stop": "w1", "max_tokens": 9},
    ]  # fmt: skip
    asked = [line(str(i), messages=said(PROMPTS[i]), **it) for i, it in enumerate(own)]
    del asked[3]["body"]["max_tokens"]
    batch = gate.batch(client, [*asked, asked[1] | {"custom_id": "again"}], endpoint=CHAT)
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    answers = gate.lines(client, found["output_file_id"])
    assert [it["custom_id"] for it in answers] == ["0", "1", "2", "4", "again"]
    for answer in answers:
        at = int(answer["custom_id"].replace("again", "1"))
        params = {"max_new_tokens" if k == "max_tokens" else k: v for k, v in own[at].items()}
        (want,) = alone(writer, [f"user : {PROMPTS[at]} assistant :"], **params)
        body = answer["response"]["body"]
        assert body["choices"][0]["message"]["content"] == want.text
        assert body["choices"][0]["finish_reason"] == want.finish_reason
        assert body["usage"]["completion_tokens"] == want.n_generated
    (error,) = gate.lines(client, found["error_file_id"])
    assert (error["custom_id"], error["error"]["code"]) == ("3", "invalid_row")
    assert "how long an answer may be" in error["error"]["message"]


def test_what_a_model_thinks_is_not_in_its_content(make_house: MakeHouse, tmp_path: Path) -> None:
    model = save_peaked(tmp_path / "thinker", "llama")
    (model / "chat_template.jinja").write_text(TEMPLATE + " <think>")
    gate = make_house(gateway_models=f"writer={model}", split_reasoning=True)
    client = gate.client()
    batch = gate.batch(client, [line("a", messages=said("w1"))], endpoint=CHAT)
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    (answer,) = gate.lines(client, found["output_file_id"])
    message = answer["response"]["body"]["choices"][0]["message"]
    assert message["content"] == ""
    assert message["reasoning_content"]


def test_an_answer_has_the_form_that_was_asked_for(make_house: MakeHouse, tmp_path: Path) -> None:
    model = save_byte_model(tmp_path / "bytes", "llama")
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    gate = make_house(gateway_models=f"writer={model}")
    client = gate.client()
    schema = {  # its properties have names of columns of a part
        "type": "object", "required": ["status", "line"], "additionalProperties": False,
        "properties": {"status": {"enum": ["on", "off"]}, "line": {"$ref": "#/$defs/N"}},
        "$defs": {"N": {"type": "integer", "minimum": 1, "maximum": 99}},
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    asked = [
        line(str(i), messages=said(f"it is {i}"), max_tokens=60, response_format=form)
        for i in range(4)
    ]
    batch = gate.batch(client, asked, endpoint=CHAT)
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    for answer in gate.lines(client, found["output_file_id"]):
        (choice,) = ChatCompletion.model_validate(answer["response"]["body"]).choices
        written = json.loads(str(choice.message.content))
        assert list(written) == ["status", "line"]
        assert written["status"] in ("on", "off")
        assert written["line"] in range(1, 100)


def test_a_length_that_nobody_states_fails_the_batch_with_the_reason(gate: House) -> None:
    client = gate.client()
    body = line("a", messages=said("w1"))
    del body["body"]["max_tokens"]
    batch = gate.batch(client, [body], endpoint=CHAT)
    found = gate.until(client, batch, "failed")
    assert "states no length of an answer" in found["errors"]["data"][0]["message"]


def test_a_model_without_a_chat_template_fails_the_batch_with_the_reason(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    gate = make_house(gateway_models=f"writer={save_peaked(tmp_path / 'plain', 'llama')}")
    client = gate.client()
    batch = gate.batch(client, [line("a", messages=said("w1"))], endpoint=CHAT)
    found = gate.until(client, batch, "failed")
    assert "has no chat template" in found["errors"]["data"][0]["message"]
