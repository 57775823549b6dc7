"""The form of answers as options say it: columns of a schema, what is refused at submission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.engines import engine_named, version_here, with_form
from headrace.tasks.generation.settings import settings_of
from headrace.tasks.generation.structure import fields_of, form_columns, grammar_of
from headrace.tasks.registry import check_columns
from producers.planning.columns import ColumnRequest, check_names
from schemas.errors import ColumnError, ConfigError, ModelError
from tests.unit.generation.structured.byte_models import SCHEMA, byte_tokenizer

SPEC = task_spec("text-generation")
FILES = {
    "config.json": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "eos_token_id": 1,
    },
    "generation_config.json": {"max_new_tokens": 20},
}


def check(params: dict[str, Any], **files: Any) -> None:
    """What the submission checks of a model's files."""
    assert SPEC.check_files is not None
    SPEC.check_files((FILES | {f"{k}.json": v for k, v in files.items()}).get, params, "here")


def schema(**properties: Any) -> str:
    return json.dumps({"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("stated", "type_"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer", "minimum": 0}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": ["integer", "number", "null"]}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"enum": ["a", "b", None]}, "string"),
        ({"enum": ["a", 1]}, "json"),
        ({"const": 3}, "integer"),
        ({"$ref": "#/$defs/Mood"}, "string"),
        ({"anyOf": [{"$ref": "#/$defs/Mood"}, {"type": "null"}]}, "string"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"type": "array", "items": {"$ref": "#/$defs/Mood"}}, "list of string"),
        ({"type": "array", "items": {"type": "array"}}, "json"),
        ({"type": "array"}, "json"),
        ({"type": ["array", "string"], "items": {"type": "string"}}, "json"),
        ({"type": "object"}, "json"),
        ({"$ref": "#/$defs/Loop"}, "json"),
        (True, "json"),
    ],
)
def test_a_property_is_a_column_of_its_type(stated: Any, type_: str) -> None:
    root = {
        "properties": {"it": stated},
        "$defs": {"Mood": {"enum": ["x"]}, "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}]}},
    }
    (field,) = fields_of(root)
    assert (field.name, field.type) == ("it", type_)


def test_properties_of_a_reference_at_the_top_are_columns_too() -> None:
    root = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"b": {"type": "string"}}}}}
    assert [field.name for field in fields_of(root)] == ["b"]
    assert fields_of({"type": "array"}) == ()


def test_a_changed_file_changes_no_job(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA, indent=2))
    record = SPEC.resolve({"json_schema": str(file)})
    file.write_text("{}")
    assert json.loads(record["json_schema"]) == SCHEMA
    assert list(json.loads(record["json_schema"])["properties"]) == list(SCHEMA["properties"])  # type: ignore[call-overload]
    assert SPEC.resolve(record) == record


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere.json", "cannot be read"),
        ("{", "not JSON"),
        (schema(Status={}), "'status' has the name of the column 'status'"),
        (schema(generated_text={}), "'generated_text'"),
        (schema(parse_error={}), "'parse_error'"),
        (schema(Name={}, name={}), "2 properties would be the column 'name'"),
        (schema(**{"": {}}), "without a name"),
    ],
)
def test_a_schema_that_makes_no_columns_is_refused(given: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SPEC.resolve({"json_schema": given})


def test_the_form_excludes_another_and_a_stop_text() -> None:
    with pytest.raises(ConfigError, match="contradict"):
        SPEC.resolve({"json_schema": "{}", "choices": "a,b"})
    with pytest.raises(ConfigError, match="--stop and --choices"):
        SPEC.resolve({"choices": "a,b", "stop": "#"})


def test_columns_of_the_schema_clash_with_those_of_the_input() -> None:
    more = form_columns({"json_schema": json.dumps(SCHEMA)})
    assert more == (*SCHEMA["properties"], "parse_error")  # type: ignore[misc]
    with pytest.raises(ColumnError, match="'Stars' has the name of a column"):
        check_names(ColumnRequest("text-generation", "t", carried=("Stars",), more_answers=more))
    with pytest.raises(ColumnError, match="'mood' has the name of the id column"):
        check_names(ColumnRequest("text-generation", "t", id="mood", more_answers=more))


def test_a_task_may_write_the_columns_that_its_parameters_ask_for() -> None:
    class Field:
        name = "parse_error"

    check_columns(SPEC, [Field], {"choices": '["a","b"]'})
    with pytest.raises(ConfigError, match="writes the column 'parse_error'"):
        check_columns(SPEC, [Field])


@pytest.mark.parametrize(
    ("property_", "words"),
    [
        ({"not": {"const": 1}}, 'Unimplemented keys: \\["not"\\]'),
        ({"type": "text"}, "Invalid type: text"),
        ({"$ref": "file:///etc/passwd"}, "does not fetch"),
        ({"enum": []}, "Unsatisfiable"),
    ],
)
def test_a_keyword_that_cannot_be_followed_is_refused(property_: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check({"json_schema": json.dumps(json.loads(schema(a=property_)) | {"required": ["a"]})})


@pytest.mark.parametrize(
    ("name", "value"),
    [("no_repeat_ngram_size", 3), ("bad_words_ids", [[5]]), ("min_length", 4),
     ("sequence_bias", [[[5], -1.0]]), ("suppress_tokens", [5]), ("begin_suppress_tokens", [5]),
     ("remove_invalid_values", True), ("exponential_decay_length_penalty", [5, 1.1])],
)  # fmt: skip
def test_settings_of_the_model_that_forbid_tokens_are_refused(name: str, value: Any) -> None:
    files = {"generation_config": {"max_new_tokens": 20, name: value}}
    check({}, **files)
    with pytest.raises(ConfigError, match=f"generation_config.json asks for {name}"):
        check({"json_schema": "{}"}, **files)


def test_a_forced_end_does_not_hold_with_a_form() -> None:
    files = FILES | {"generation_config.json": {"max_new_tokens": 9, "forced_eos_token_id": 1}}
    read = files.get
    assert "forced_eos_token_id" in settings_of("text-generation", read, {}, "here").values
    found = settings_of("text-generation", read, {"choices": '["a"]'}, "here")
    assert "forced_eos_token_id" not in {**found.values, **found.said_by}


def test_a_model_without_an_end_token_is_refused() -> None:
    config = {k: v for k, v in FILES["config.json"].items() if k != "eos_token_id"}
    with pytest.raises(ModelError, match="no token that ends"):
        check({"choices": '["a","b"]'}, config=config)


def test_a_tokenizer_that_cannot_begin_an_answer_is_refused() -> None:
    params = {"json_schema": json.dumps(SCHEMA)}
    check(params, tokenizer=_json(byte_tokenizer()))
    with pytest.raises(ModelError, match="no token of its vocabulary begins"):
        check(params, tokenizer=_json(byte_tokenizer(without="{")))
    pieces = _json(byte_tokenizer())
    pieces["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(ModelError, match="tokenizer whose tokens are bytes"):
        check(params, tokenizer=pieces)


def _json(tokenizer: Any) -> Any:
    return json.loads(tokenizer.backend_tokenizer.to_str())


def test_what_follows_the_form_is_in_the_engine_version_of_the_job() -> None:
    usual, params = engine_named("transformers"), {"choices": '["a","b"]'}
    assert with_form(usual, {}) == usual
    found = with_form(usual, params).version
    assert found is not None
    assert found.startswith(f"{usual.version}, llguidance 1.")
    assert version_here("transformers", params=params) == found
    with pytest.raises(ConfigError, match="ctranslate2 cannot follow --schema or --choices"):
        with_form(engine_named("ctranslate2"), params)


def test_json_is_spaced_as_programs_write_it() -> None:
    from llguidance import LLMatcher, LLTokenizer

    tries = LLTokenizer(byte_tokenizer().backend_tokenizer.to_str(), eos_token=1)
    grammar = grammar_of({"json_schema": schema(a={"type": "integer"}, b={"type": "integer"})})
    for text, fits in (
        ('{"a":1,"b":2}', True), ('{"a": 1, "b": 2}', True), ('{"a":1,  "b":2}', False),
        ('{ "a":1}', False), ('{"a":1\\n', False),
    ):  # fmt: skip
        tokens = tries.tokenize_str(text)
        state = LLMatcher(tries, grammar, log_level=0)
        assert (state.try_consume_tokens(tokens) == len(tokens)) is fits, text
