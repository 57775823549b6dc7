"""The columns of answers of a given form: a schema's properties, and why an answer has none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headrace.tasks.candidate_labels import labels_of
from headrace.tasks.generation.answer import Answer
from headrace.tasks.generation.structure import (
    PARSE_ERROR,
    AnswerField,
    Kind,
    asks_for_form,
    fields_in,
)

TYPES: Mapping[Kind, pa.DataType] = {
    "string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(),
    "json": pa.string(),
}  # fmt: skip
INT64 = range(-(1 << 63), 1 << 63)


class TypedAnswers:
    """Texts to columns, by a job's parameters; no columns if any text is an answer."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._fields = fields_in(params)
        self._has_form = asks_for_form(params)
        self._choices: frozenset[str] | None = None
        if params.get("choices") is not None:
            self._choices = frozenset(labels_of(params["choices"]))

    def columns(self) -> list[pa.Field]:
        """One for each property, and `parse_error`."""
        if not self._has_form:
            return []
        return [*(pa.field(it.name, _type(it)) for it in self._fields),
                pa.field(PARSE_ERROR, pa.string())]  # fmt: skip

    def arrays(self, answers: Sequence[Answer]) -> list[pa.Array]:
        """The values of each column, one for each answer."""
        if not self._has_form:
            return []
        parsed = [self._parsed(answer) for answer in answers]
        values = [
            pa.array([row[at] for row, _ in parsed], _type(field))
            for at, field in enumerate(self._fields)
        ]
        return [*values, pa.array([error for _, error in parsed], pa.string())]

    def _parsed(self, answer: Answer) -> tuple[list[Any], str | None]:
        """A value for each property, or nulls and what is wrong."""
        nothing: list[Any] = [None] * len(self._fields)
        try:
            if self._choices is not None:
                _check_choice(answer.text, self._choices)
                return nothing, None
            found = json.loads(answer.text)
            if not self._fields:
                return nothing, None
            if not isinstance(found, dict):
                raise ValueError("it is no object")
            return [_value(field, found.get(field.name)) for field in self._fields], None
        except (ValueError, RecursionError) as error:
            cut = f"cut after {answer.n_generated:,} tokens: " if _is_cut(answer) else ""
            return nothing, f"{cut}{error}"


def _check_choice(text: str, choices: frozenset[str]) -> None:
    if text not in choices:
        raise ValueError(f"{text[:80]!r} is none of the choices")


def _is_cut(answer: Answer) -> bool:
    return answer.finish_reason == "length"


def _type(field: AnswerField) -> pa.DataType:
    return pa.list_(TYPES[field.kind]) if field.is_list else TYPES[field.kind]


def _value(field: AnswerField, value: Any) -> Any:
    """The value in its column's type.

    Raises:
        ValueError: it has another type, or does not fit.
    """
    if value is None:
        return None
    if field.is_list:
        if not isinstance(value, list):
            raise ValueError(f"{field.name} is no list")
        return [None if it is None else READ[field.kind](field.name, it) for it in value]
    return READ[field.kind](field.name, value)


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} is no valid Unicode") from None
    return value


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{name} is no integer")
    if int(value) not in INT64:
        raise ValueError(f"{name} does not fit into 64 bits")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} does not fit into a float64")
    return found


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def _json(name: str, value: Any) -> str:
    return _string(name, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


READ: Mapping[Kind, Callable[[str, Any], Any]] = {
    "string": _string, "integer": _integer, "number": _number, "boolean": _boolean, "json": _json,
}  # fmt: skip
