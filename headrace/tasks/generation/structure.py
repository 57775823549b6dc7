"""Answers of a given form: JSON under a schema, or one of a few choices. Pure, for both sides.

The form is a grammar that llguidance follows token by token. Here are the options that ask for it,
the grammar's text, and the columns that a schema's properties become.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headrace.tasks.candidate_labels import as_recorded, labels_of
from schemas.errors import ConfigError, MissingExtra

PARSE_ERROR = "parse_error"
CHOICE_WORD = "choice"
PACKAGE = "llguidance"
MISSING = (
    "--schema and --choices of a task that generates need llguidance: "
    "pip install 'headrace[structured]'"
)

SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""Spaces between the parts of JSON: one or none behind a comma and a colon, as json.dumps writes with
its defaults and as compact JSON is written. Chosen: with white space anywhere, as llguidance has it by
default, a model may write spaces until its length is used up."""

DEEPEST = 8
"""References that are followed one behind another. Chosen: one to itself ends."""

Kind = Literal["string", "integer", "number", "boolean", "json"]
PLAIN_KINDS: Mapping[str, Kind] = {
    "string": "string", "integer": "integer", "number": "number", "boolean": "boolean",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnswerField:
    """A property of the answer, and so a column."""

    name: str
    kind: Kind
    """`json`: any value, kept as JSON text."""
    is_list: bool = False

    @property
    def type(self) -> str:
        """Its type, as people read it."""
        return f"list of {self.kind}" if self.is_list else self.kind


def asks_for_form(params: Mapping[str, Any]) -> bool:
    """Whether answers have a given form."""
    return any(params.get(name) is not None for name in ("json_schema", "choices"))


def settled_form(params: Mapping[str, Any], own_columns: tuple[str, ...]) -> dict[str, Any]:
    """The options of the form as the record holds them: the schema's text, choices as an array.

    Raises:
        ConfigError: both are given, a file cannot be read, or a property cannot be a column.
    """
    schema, choices = params.get("json_schema"), params.get("choices")
    if schema is not None and choices is not None:
        raise ConfigError("--schema and --choices contradict one another")
    if asks_for_form(params) and params.get("stop") is not None:
        option = "--choices" if schema is None else "--schema"
        raise ConfigError(f"--stop and {option} contradict one another: the form says the end")
    found: dict[str, Any] = {}
    if choices is not None:
        found["choices"] = as_recorded(choices, "--choices", CHOICE_WORD)
    if schema is not None:
        found["json_schema"] = _settled_schema(schema)
        _check_names(fields_of(json.loads(found["json_schema"])), own_columns)
    return found


def form_columns(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that the form adds."""
    if not asks_for_form(params):
        return ()
    return (*(field.name for field in fields_in(params)), PARSE_ERROR)


def fields_in(params: Mapping[str, Any]) -> tuple[AnswerField, ...]:
    """The columns of a settled schema; none without one."""
    schema = params.get("json_schema")
    return () if schema is None else fields_of(json.loads(schema))


def fields_of(schema: Mapping[str, Any]) -> tuple[AnswerField, ...]:
    """A column for each property at the schema's top; none if answers need not be objects."""
    top = _resolved(schema, schema)
    properties = top.get("properties")
    if not isinstance(properties, Mapping):
        return ()
    return tuple(_field(name, _resolved(it, schema), schema) for name, it in properties.items())


def choices_in(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The choices of settled options; none without them."""
    choices = params.get("choices")
    return () if choices is None else tuple(labels_of(choices, CHOICE_WORD))


def grammar_of(params: Mapping[str, Any]) -> str:
    """The form of settled options as llguidance's grammar, JSON; empty if any text is an answer."""
    if params.get("json_schema") is not None:
        schema = json.loads(params["json_schema"])
        schema["x-guidance"] = {**SPACING, **_own_guidance(schema)}
        return json.dumps({"grammars": [{"json_schema": schema}]}, ensure_ascii=False)
    if params.get("choices") is not None:
        written = [json.dumps(it, ensure_ascii=False) for it in choices_in(params)]
        lark = f"start: {' | '.join(written)}"
        return json.dumps({"grammars": [{"lark_grammar": lark}]}, ensure_ascii=False)
    return ""


def described_form(grammar: str) -> dict[str, str]:
    """What the grammar asks for, for people: by the option's name."""
    for it in json.loads(grammar)["grammars"] if grammar else ():
        if "json_schema" not in it:
            return {"choices": it["lark_grammar"].removeprefix("start: ").replace(" | ", ", ")}
        columns = [f"{field.name} ({field.type})" for field in fields_of(it["json_schema"])]
        return {"schema": f"columns {', '.join(columns)}" if columns else "no columns"}
    return {}


def grammar_version() -> str:
    """The package that follows grammars, with its version.

    Raises:
        MissingExtra: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError as error:
        raise MissingExtra(MISSING) from error


def _settled_schema(given: str) -> str:
    """The schema as JSON text, from a file or from that text."""
    text = given if given.lstrip().startswith("{") else _content(given)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--schema {given[:80]}: not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"--schema {given[:80]}: a schema is a JSON object")
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def _content(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--schema {file} cannot be read: {error}") from error


def _own_guidance(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the schema itself says to llguidance."""
    own = schema.get("x-guidance")
    return own if isinstance(own, Mapping) else {}


def _check_names(fields: tuple[AnswerField, ...], own_columns: tuple[str, ...]) -> None:
    from schemas.records.part_schema import RESERVED  # with pyarrow, which --help does not need

    taken = {name.casefold(): name for name in (*own_columns, PARSE_ERROR, *RESERVED)}
    for name, times in Counter(field.name.casefold() for field in fields).items():
        if not name:
            raise ConfigError("--schema: a property without a name can be no column")
        if name in taken:
            raise ConfigError(
                f"--schema: the property {name!r} has the name of the column {taken[name]!r} that "
                "headrace writes; rename it in the schema"
            )
        if times > 1:
            raise ConfigError(f"--schema: {times} properties would be the column {name!r}")


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a reference within the file; an empty one where there is none."""
    for _ in range(DEEPEST):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        schema = _at(root, reference)
    return schema if isinstance(schema, Mapping) else {}


def _at(root: Any, pointer: str) -> Any:
    """What a JSON pointer names."""
    for part in pointer.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        root = root.get(key) if isinstance(root, Mapping) else None
    return root


def _field(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> AnswerField:
    kind = _kind(schema, root)
    if kind != "json" or "array" not in _types(schema, root):
        return AnswerField(name, kind)
    items = _kind(_resolved(schema.get("items"), root), root)
    is_plain = items != "json" and _types(schema, root) <= {"array", "null"}
    return AnswerField(name, items, True) if is_plain else AnswerField(name, "json")


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Kind:
    """The one kind of value that the schema allows beside null; `json` if there are several."""
    types = _types(schema, root) - {"null"}
    if types == {"integer", "number"}:
        return "number"
    return PLAIN_KINDS.get(next(iter(types)), "json") if len(types) == 1 else "json"


def _types(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> set[str]:
    """Names of the types that a value may have; empty: any."""
    stated = schema.get("type")
    if isinstance(stated, str):
        return {stated}
    if isinstance(stated, list):
        return set(map(str, stated))
    if "const" in schema:
        return {_type_of(schema["const"])}
    if isinstance(schema.get("enum"), list):
        return {_type_of(value) for value in schema["enum"]}
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and depth < DEEPEST:
            each = [_types(_resolved(it, root), root, depth + 1) for it in schema[name]]
            return set().union(*each) if all(each) else set()
    return set()


def _type_of(value: Any) -> str:
    for kind, name in _TYPES.items():
        if type(value) is kind:
            return name
    return "object"


_TYPES: Mapping[type, str] = {
    str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null",
    list: "array",
}  # fmt: skip
