"""Lines for chats and completions: what is served becomes options, what is not has its reason."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tasks.generation.row_settings import own_settings
from headrace.tasks.generation.specs import settle
from producers.gateway.batches.check import check_lines
from producers.gateway.batches.completions import completion
from producers.gateway.batches.requests import parse_line
from producers.gateway.records import Checked, Endpoint

CHAT: Endpoint = "/v1/chat/completions"
COMPLETIONS: Endpoint = "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]


def line(custom_id: str = "a", endpoint: Endpoint = CHAT, **body: Any) -> dict[str, Any]:
    source = {"messages": HELLO} if endpoint == CHAT else {"prompt": "hello"}
    return {
        "custom_id": custom_id, "method": "POST", "url": endpoint,
        "body": {"model": "m", **source, **body},
    }  # fmt: skip


def options(endpoint: Endpoint = CHAT, **body: Any) -> dict[str, Any]:
    found = parse_line(json.dumps(line(endpoint=endpoint, **body)).encode(), endpoint)
    assert found.fault is None, found.fault
    return found.generation


def fault(endpoint: Endpoint = CHAT, **body: Any) -> tuple[str, str | None]:
    found = parse_line(json.dumps(line(endpoint=endpoint, **body)).encode(), endpoint)
    assert found.fault is not None
    assert not found.texts
    return found.fault.code, found.fault.param


def checked(
    folder: Path, lines: list[Any], endpoint: Endpoint = CHAT
) -> tuple[Checked, list[dict[str, Any]], list[dict[str, Any]]]:
    data = b"\n".join(json.dumps(it).encode() for it in lines)
    found = check_lines(io.BytesIO(data), endpoint, folder / "rows")
    faults = (folder / "faults").read_text().splitlines()
    return found, pq.read_table(folder / "rows").to_pylist(), [json.loads(it) for it in faults]


def test_parameters_of_openai_become_options_of_a_job() -> None:
    assert options(
        max_completion_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop=["a", "b"],
        n=2, stream=False, presence_penalty=0.0, tools=[], user="me", logit_bias=None,
    ) == {
        "max_new_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": '["a", "b"]',
        "num_samples": 2,
    }  # fmt: skip
    assert options(max_tokens=7, max_completion_tokens=7) == {"max_new_tokens": 7}
    assert options(COMPLETIONS, max_tokens=7, stop="x") == {"max_new_tokens": 7, "stop": '["x"]'}
    assert options(temperature=None, n=1, response_format={"type": "text"}) == {}


def test_a_form_of_answers_is_a_schema_without_columns_of_its_own() -> None:
    assert json.loads(options(response_format={"type": "json_object"})["json_schema"]) == {
        "type": "object"
    }
    schema = {
        "type": "object", "properties": {"status": {"$ref": "#/$defs/S"}, "id": {}},
        "$defs": {"S": {"type": "string"}},
    }  # fmt: skip
    asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    settled = settle(options(response_format=asked))  # `status` and `id` are columns of a part
    assert json.loads(settled["json_schema"])["$defs"] == schema["$defs"]


def test_references_within_a_schema_name_the_same_part() -> None:
    schema = {
        "properties": {
            "a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}, "c": {"$ref": "#"},
            "d": {"enum": ["#/properties/a"]}, "$ref": {"$ref": "#/$defs/S"},
        },
        "$defs": {"S": {"items": [{"$ref": "#/properties/b"}]}},
    }  # fmt: skip
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = json.loads(options(response_format=asked)["json_schema"])
    assert found["$defs"]["S"]["items"] == [{"$ref": "#/allOf/0/properties/b"}]
    assert found["allOf"] == [
        {
            "properties": {
                "a": {"type": "integer"}, "b": {"$ref": "#/allOf/0/properties/a"},
                "c": {"$ref": "#"}, "d": {"enum": ["#/properties/a"]},
                "$ref": {"$ref": "#/$defs/S"},
            }
        }
    ]  # fmt: skip


def test_a_schema_that_cannot_be_followed_is_the_fault_of_its_line_alone(tmp_path: Path) -> None:
    asked = [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        for schema in ({"type": "nonsense"}, {"$ref": "#/$defs/x"}, {"pattern": "("}, {"enum": []})
    ]
    lines = [line(str(n), response_format=it) for n, it in enumerate(asked)]
    found, rows, faults = checked(tmp_path, [*lines, line("ok", seed=3)])
    assert [row["custom_id"] for row in rows] == ["ok"]
    assert found.generation == {"seed": 3}
    assert {(it["code"], it["param"]) for it in faults} == {
        ("invalid_value", "body.response_format")
    }
    assert faults[0]["message"] == "the schema cannot be followed: Invalid type: nonsense"


def test_a_chat_keeps_its_messages_and_parts_of_text_are_joined() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "é"}]},
        {"role": "assistant", "content": "b", "refusal": None, "tool_calls": None},
    ]
    found = parse_line(json.dumps(line(messages=messages)).encode(), CHAT)
    assert [json.loads(text) for text in found.texts] == [
        [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "aé"},
            {"role": "assistant", "content": "b"},
        ]
    ]


IMAGE = {"type": "image_url", "image_url": {"url": "https://a"}}
UNSERVED: dict[str, tuple[Endpoint, dict[str, Any], str, str]] = {
    "tools": (CHAT, {"tools": [{"type": "function"}]}, "unsupported_value", "body.tools"),
    "a stream": (CHAT, {"stream": True}, "unsupported_value", "body.stream"),
    "a penalty": (CHAT, {"frequency_penalty": 0.1}, "unsupported_value", "body.frequency_penalty"),
    "logprobs": (COMPLETIONS, {"logprobs": 0}, "unsupported_value", "body.logprobs"),
    "an echo": (COMPLETIONS, {"echo": True}, "unsupported_value", "body.echo"),
    "a form": (COMPLETIONS, {"response_format": {"type": "json_object"}}, "unknown_parameter",
               "body.response_format"),
    "a strange name": (CHAT, {"\ud800": 1}, "unknown_parameter", "body.\\ud800"),
    "a prompt in a chat": (CHAT, {"prompt": "x"}, "unknown_parameter", "body.prompt"),
    "no tokens": (CHAT, {"max_tokens": 0}, "invalid_value", "body.max_tokens"),
    "half a token": (CHAT, {"max_tokens": 1.5}, "invalid_value", "body.max_tokens"),
    "two lengths": (CHAT, {"max_tokens": 1, "max_completion_tokens": 2}, "invalid_value",
                    "body.max_completion_tokens"),
    "heat": (CHAT, {"temperature": 2.1}, "invalid_value", "body.temperature"),
    "no number": (CHAT, {"temperature": float("nan")}, "invalid_value", "body.temperature"),
    "top_p of 0": (CHAT, {"top_p": 0}, "invalid_value", "body.top_p"),
    "a seed of words": (CHAT, {"seed": "a"}, "invalid_value", "body.seed"),
    "five stops": (CHAT, {"stop": list("abcde")}, "invalid_value", "body.stop"),
    "an empty stop": (CHAT, {"stop": ""}, "invalid_value", "body.stop"),
    "no schema": (CHAT, {"response_format": {"type": "json_schema"}}, "invalid_value",
                  "body.response_format"),
    "a stop and a form": (CHAT, {"stop": "x", "response_format": {"type": "json_object"}},
                          "unsupported_value", "body.stop"),
    "samples of a form": (CHAT, {"n": 2, "response_format": {"type": "json_object"}},
                          "unsupported_value", "body.n"),
    "many samples": (CHAT, {"n": 129}, "invalid_value", "body.n"),
    "no messages": (CHAT, {"messages": []}, "invalid_value", "body.messages"),
    "an image": (CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}, "unsupported_value",
                 "body.messages"),
    "a call of a tool": (CHAT, {"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]},
                         "unsupported_value", "body.messages"),
    "no content": (CHAT, {"messages": [{"role": "user"}]}, "unsupported_value", "body.messages"),
    "half a surrogate": (CHAT, {"messages": [{"role": "user", "content": "\ud800"}]},
                         "invalid_value", "body.messages"),
    "token ids": (COMPLETIONS, {"prompt": [1, 2]}, "invalid_value", "body.prompt"),
}  # fmt: skip


@pytest.mark.parametrize(("endpoint", "body", "code", "param"), UNSERVED.values(), ids=UNSERVED)
def test_what_is_not_served_is_the_fault_of_its_line(
    endpoint: Endpoint, body: dict[str, Any], code: str, param: str
) -> None:
    assert fault(endpoint, **body) == (code, param)


def test_a_line_with_a_fault_leaves_the_others_to_be_answered(tmp_path: Path) -> None:
    found, rows, faults = checked(
        tmp_path,
        [line("a", stream=True), line("b", n=2), line("c", n=3), line("d", n=2, seed=1)],
    )
    assert (found.lines, found.rows, found.faults, found.error_count) == (4, 2, 2, 0)
    assert found.generation == {"num_samples": 2}
    assert [(row["custom_id"], row["line"]) for row in rows] == [("b", 2), ("d", 4)]
    assert [(it["custom_id"], it["line"], it["code"]) for it in faults] == [
        ("a", 1, "unsupported_value"),
        ("c", 3, "mismatched_n"),
    ]
    assert faults[1]["message"] == (
        "n 3 is not that of the first line, 2: all lines of a batch have one; send this line in "
        "another batch"
    )


def test_a_line_that_leaves_a_parameter_out_differs_too(tmp_path: Path) -> None:
    _, _, faults = checked(tmp_path, [line("a", n=4), line("b")])
    assert [(it["code"], it["param"]) for it in faults] == [("mismatched_n", "body.n")]


def test_lines_may_have_settings_of_their_own(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [
        {"max_tokens": 4}, {"seed": 2, "stop": "x", "temperature": 0.5}, {}, {"n": 2},
    ]  # fmt: skip
    found, rows, faults = checked(tmp_path, [line(str(i), **it) for i, it in enumerate(asked)])
    assert (found.varies, found.generation) == (True, {"max_new_tokens": 4})
    own = [own_settings(row["settings"]) for row in rows]
    wanted = {"seed": 2, "stop": '["x"]', "temperature": 0.5}
    assert own == [{"max_new_tokens": 4}, wanted, {}]
    assert [it["code"] for it in faults] == ["mismatched_n"]
    alike, _, _ = checked(tmp_path, [line(str(i), max_tokens=4) for i in range(3)])
    assert not alike.varies


def test_an_engine_that_writes_all_alike_leaves_lines_with_other_settings_out(
    tmp_path: Path,
) -> None:
    lines = [line(str(at), max_tokens=most) for at, most in enumerate((4, 4, 5))]
    data = b"\n".join(json.dumps(it).encode() for it in lines)
    found = check_lines(io.BytesIO(data), CHAT, tmp_path / "rows", may_vary=False)
    assert (found.varies, found.rows, found.faults) == (False, 2, 1)
    fault = json.loads((tmp_path / "faults").read_text())
    assert (fault["line"], fault["code"]) == (3, "mismatched_max_tokens")


def test_what_a_model_thinks_is_apart_in_its_message() -> None:
    row = {"generated_text": "so", "finish_reason": "stop", "n_generated": 3, "n_tokens": 2}
    done = Checked(at_s=1.0, lines=1, model="m")
    for rows, wanted in (
        ([row | {"reasoning": "why"}], ["why"]),
        ([row | {"reasoning": None}], [None]),
        ([{name: [row[name]] * 2 for name in row} | {"n_tokens": 2, "reasoning": ["a", None]}],
         ["a", None]),
    ):  # fmt: skip
        choices = completion("1", CHAT, done, rows)["choices"]
        assert [it["message"].get("reasoning_content") for it in choices] == wanted
        assert all(it["message"]["content"] == "so" for it in choices)


def test_a_file_of_faults_alone_is_refused(tmp_path: Path) -> None:
    found, _, _ = checked(tmp_path, [line(str(i), stream=True) for i in range(150)])
    assert (len(found.errors), found.error_count) == (100, 150)
    assert found.errors[0].code == "unsupported_value"


def test_ids_of_faulty_lines_may_not_repeat_and_models_may_not_differ(tmp_path: Path) -> None:
    lines = [line("a"), line("a", stream=True), line("b", model="n", stream=True)]
    found, _, _ = checked(tmp_path, lines)
    assert [(e.line, e.code) for e in found.errors] == [
        (2, "duplicate_custom_id"),
        (3, "mismatched_model"),
    ]


def test_prompts_of_one_line_are_rows_of_it(tmp_path: Path) -> None:
    found, rows, _ = checked(tmp_path, [line(endpoint=COMPLETIONS, prompt=["x", "y"])], COMPLETIONS)
    assert (found.lines, found.rows) == (1, 2)
    assert [row["text"] for row in rows] == ["x", "y"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "json_schema"]), inner
        )
    ),
)
NAMES = [
    "messages", "prompt", "max_tokens", "stop", "response_format", "n", "tools", "seed", "top_p",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from([CHAT, COMPLETIONS]))
def test_any_body_has_prompts_or_a_fault(body: dict[str, Any], endpoint: Endpoint) -> None:
    found = parse_line(
        json.dumps(line(endpoint=endpoint) | {"body": {"model": "m"} | body}).encode(), endpoint
    )
    assert bool(found.texts) == (found.fault is None)
