"""Texts of answers to typed columns, and the words where that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from headrace.tasks.generation.answer import Answer
from workers.tasks.structured.typed_answers import TypedAnswers

PROPERTIES: dict[str, Any] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "n": {"type": "number"},
    "b": {"type": "boolean"},
    "l": {"type": "array", "items": {"type": "integer"}},
    "o": {"type": "object"},
}
FORM = TypedAnswers({"json_schema": json.dumps({"properties": PROPERTIES})})


def row_of(text: str, **answer: Any) -> dict[str, Any]:
    columns = FORM.arrays([Answer(0, text, **answer)])
    names = [field.name for field in FORM.columns()]
    return {name: column[0].as_py() for name, column in zip(names, columns, strict=True)}


def test_each_property_has_the_type_of_its_column() -> None:
    assert [(field.name, field.type) for field in FORM.columns()] == [
        ("s", pa.string()), ("i", pa.int64()), ("n", pa.float64()), ("b", pa.bool_()),
        ("l", pa.list_(pa.int64())), ("o", pa.string()), ("parse_error", pa.string()),
    ]  # fmt: skip
    text = '{"s": "é", "i": 3.0, "n": 2, "b": false, "l": [1, null], "o": {"x": [1, "ü"]}, "z": 1}'
    assert row_of(text) == {
        "s": "é", "i": 3, "n": 2.0, "b": False, "l": [1, None], "o": '{"x":[1,"ü"]}',
        "parse_error": None,
    }  # fmt: skip


def test_a_missing_property_is_null() -> None:
    assert set(row_of("{}").values()) == {None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "it is no object"),
        ("", "Expecting value"),
        ('{"s": "a', "Unterminated string"),
        ('{"s": 1}', "s is no string"),
        ('{"s": "\\ud800"}', "s is no valid Unicode"),
        ('{"i": 1.5}', "i is no integer"),
        ('{"i": true}', "i is no integer"),
        ('{"i": 9223372036854775808}', "i does not fit into 64 bits"),
        ('{"n": 1e999}', "n does not fit into a float64"),
        ('{"n": ' + "9" * 400 + "}", "n does not fit into a float64"),
        ('{"b": 1}', "b is neither true nor false"),
        ('{"l": 1}', "l is no list"),
        ('{"l": ["a"]}', "l is no integer"),
    ],
)
def test_an_answer_that_fits_no_column_says_why(text: str, words: str) -> None:
    row = row_of(text)
    assert words in row.pop("parse_error")
    assert set(row.values()) == {None}


def test_a_cut_answer_says_that_it_is_cut() -> None:
    row = row_of('{"s": "a', finish_reason="length", n_generated=1200)
    assert row["parse_error"].startswith("cut after 1,200 tokens: Unterminated string")


def test_a_whole_answer_of_full_length_has_no_error() -> None:
    assert row_of('{"s": "a"}', finish_reason="length")["parse_error"] is None


def test_choices_have_an_error_and_no_other_column() -> None:
    form = TypedAnswers({"choices": '["a","b"]'})
    assert [field.name for field in form.columns()] == ["parse_error"]
    (errors,) = form.arrays([Answer(0, "a"), Answer(1, "ab"), Answer(2, "", "length")])
    assert errors.to_pylist() == [
        None, "'ab' is none of the choices", "cut after 0 tokens: '' is none of the choices",
    ]  # fmt: skip


def test_any_text_has_no_columns() -> None:
    form = TypedAnswers({})
    assert form.columns() == form.arrays([Answer(0, "a")]) == []
