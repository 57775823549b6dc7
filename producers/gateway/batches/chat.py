"""The body of a line for `/v1/chat/completions` or `/v1/completions`, checked. Pure.

One batch is one job. A body becomes the prompts of the line and the options of such a job. Those of
`headrace.tasks.generation.row_settings` may differ from line to line, and the others may not. What is
not served has its reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from headrace.tasks.generation.grammar import fault_in
from headrace.tasks.generation.row_settings import OWN
from headrace.tasks.generation.settings import MOST_SAMPLES
from headrace.tasks.generation.structure import grammar_of
from producers.gateway.batches.line_faults import Unserved, encodable
from producers.gateway.records import Endpoint
from schemas.errors import MissingExtra

CHAT: Endpoint = "/v1/chat/completions"
COMPLETIONS: Endpoint = "/v1/completions"
SOURCE: Mapping[Endpoint, str] = {CHAT: "messages", COMPLETIONS: "prompt"}
"""Where the prompt is."""

MOST_PROMPTS = 2_048
"""Most prompts of one line, as in OpenAI's API."""
MOST_STOPS = 4
"""The same."""
MOST_SEED = 2**63

_OFF: tuple[Any, ...] = (None, False)
IGNORED: Mapping[str, tuple[Any, ...]] = {
    "stream": _OFF, "stream_options": (None,), "store": _OFF, "echo": _OFF,
    "suffix": (None, ""), "best_of": (None, 1), "logprobs": _OFF, "top_logprobs": (None, 0),
    "logit_bias": (None, {}), "presence_penalty": (None, 0), "frequency_penalty": (None, 0),
    "tools": (None, []), "tool_choice": (None, "none"), "functions": (None, []),
    "function_call": (None, "none"), "parallel_tool_calls": (None, True, False),
    "modalities": (None, ["text"]), "audio": (None,), "prediction": (None,),
    "web_search_options": (None,), "reasoning_effort": (None,), "verbosity": (None,),
    "service_tier": (None, "auto", "default"),
}  # fmt: skip
"""Parameters that would change the answer and are not served: only these values are accepted."""
NOTES = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key"})
"""Parameters that change no answer."""


def prompts_in(body: Mapping[str, Any], endpoint: Endpoint) -> list[str]:
    """The prompts of a body; a chat is one, its messages as JSON.

    Raises:
        Unserved: it has none, or holds something else than text.
    """
    if endpoint == CHAT:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Unserved(
                "invalid_value", "messages is a list of one message or more", "body.messages"
            )
        chat = [_message(it) for it in messages]
        return [encodable(json.dumps(chat, ensure_ascii=False), "body.messages")]
    given = body.get("prompt")
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list) or not prompts or any(type(it) is not str for it in prompts):
        words = "prompt is a string or a list of strings; token ids are not served"
        raise Unserved("invalid_value", words, "body.prompt")
    if len(prompts) > MOST_PROMPTS:
        raise Unserved("invalid_value", f"prompt has more than {MOST_PROMPTS} texts", "body.prompt")
    return [encodable(text, "body.prompt") for text in prompts]


def options_in(body: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """The options of a job that writes as this body asks, by their names as settings.

    Raises:
        Unserved: with the parameter that is not served, or has no such value.
    """
    read = _READ[endpoint]
    _refuse_unserved(body, read.keys() | NOTES | {"model", SOURCE[endpoint]})
    found: dict[str, Any] = {}
    for name, (option, reader) in read.items():
        if body.get(name) is not None:
            value = reader(body[name], f"body.{name}")
            if found.get(option, value) != value:
                words = f"{name} contradicts another parameter of its meaning"
                raise Unserved("invalid_value", words, f"body.{name}")
            found[option] = value
    found = {name: value for name, value in found.items() if value is not None}
    for option in ("stop", "num_samples") if "json_schema" in found else ():
        if option in found:
            name = _NAMES[option]
            words = f"{name} and response_format exclude one another"
            raise Unserved("unsupported_value", words, f"body.{name}")
    return found


def own_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a line may have of its own."""
    return {name: value for name, value in options.items() if name in OWN}


def common_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that all lines of a batch share."""
    return {name: value for name, value in options.items() if name not in OWN}


def difference(
    here: Mapping[str, Any], first: Mapping[str, Any], may_vary: bool = True
) -> Unserved | None:
    """Why a line of these options cannot be in the batch of the other's; None: it can.

    `may_vary`: lines may have settings of their own.
    """
    if may_vary:
        here, first = common_of(here), common_of(first)
    for option in sorted(here.keys() | first.keys()):
        if here.get(option) != first.get(option):
            name = _NAMES[option]
            shown, other = (json.dumps(it.get(option))[:80] for it in (here, first))
            return Unserved(
                f"mismatched_{name}",
                f"{name} {shown} is not that of the first line, {other}: all lines of a batch have "
                "one; send this line in another batch",
                f"body.{name}",
            )
    return None


def _refuse_unserved(body: Mapping[str, Any], served: Collection[str]) -> None:
    """Raises Unserved: a parameter that would change the answer, and is not served."""
    for name in sorted(body.keys() - served):
        where = f"body.{name}"[:100]
        if name not in IGNORED:
            raise Unserved("unknown_parameter", f"{where} is not served here", where)
        if not any(_is(body[name], it) for it in IGNORED[name]):
            shown = json.dumps(body[name])[:80]
            raise Unserved("unsupported_value", f"{where} = {shown} is not served here", where)


def _is(value: Any, neutral: Any) -> bool:
    """Whether they are equal: 0 is 0.0, and no False."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _message(given: Any) -> dict[str, str]:
    """A message with its role and its text.

    Raises:
        Unserved: it has another form, or parts that are no text.
    """
    where = "body.messages"
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        raise Unserved("invalid_value", "a message is an object with role and content", where)
    more = {k for k, v in given.items() if v is not None} - {"role", "content", "name", "refusal"}
    if more:
        raise Unserved("unsupported_value", f"{min(more)[:80]} of a message is not served", where)
    role = "system" if given["role"] == "developer" else given["role"]
    named = {"name": given["name"]} if isinstance(given.get("name"), str) else {}
    return {"role": role, "content": _content(given.get("content")), **named}


def _content(given: Any) -> str:
    if isinstance(given, str):
        return given
    parts: list[Any] = given if isinstance(given, list) and given else [None]
    for part in parts:
        if not (isinstance(part, dict) and part.get("type") == "text" and _is_text(part)):
            words = "the content of a message is a text, or a list of parts of type text"
            raise Unserved("unsupported_value", words, "body.messages")
    return "".join(part["text"] for part in parts)


def _is_text(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("text"), str)


def _whole(least: int, most: int) -> Callable[[Any, str], int]:
    def read(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Unserved("invalid_value", f"a whole number from {least} to {most:,}", where)
        return value

    return read


def _samples(value: Any, where: str) -> int | None:
    found = _whole(1, MOST_SAMPLES)(value, where)
    return found if found > 1 else None


def _number(least: float, most: float) -> Callable[[Any, str], float]:
    def read(value: Any, where: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise Unserved("invalid_value", f"a number from {least} to {most}", where)
        return float(value)

    return read


def _top_p(value: Any, where: str) -> float:
    found = _number(0, 1)(value, where)
    if found == 0:
        raise Unserved("invalid_value", "a number above 0, and at most 1", where)
    return found


def _stop(value: Any, where: str) -> str | None:
    """The texts as a JSON array, as `--stop` takes them."""
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise Unserved("invalid_value", f"a text, or a list of up to {MOST_STOPS} texts", where)
    if not all(isinstance(it, str) and it for it in stops):
        raise Unserved("invalid_value", "a stop text is not empty", where)
    return json.dumps([encodable(it, where) for it in stops]) if stops else None


def _response_format(value: Any, where: str) -> str | None:
    """The JSON schema of answers as text; None: any text."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return json.dumps({"type": "object"})
    asked = value.get("json_schema") if kind == "json_schema" else None
    schema = asked.get("schema") if isinstance(asked, dict) else None
    if not isinstance(schema, dict):
        words = "response_format is text, json_object, or json_schema with a schema"
        raise Unserved("invalid_value", words, where)
    text = encodable(json.dumps(_without_columns(schema), ensure_ascii=False), where)
    if fault := _fault_in_schema(text):
        raise Unserved("invalid_value", f"the schema cannot be followed: {fault}", where)
    return text


def _fault_in_schema(schema: str) -> str:
    """Why no answer can have this form; empty: one can, or the submission will tell."""
    try:
        return fault_in(grammar_of({"json_schema": schema}))
    except MissingExtra:
        return ""


def _without_columns(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema under `allOf`, so that no property becomes a column of the job.

    A property may then have the name of a column. What references and llguidance's options name
    stays at the top.
    """
    top = {k: _moved(schema[k]) for k in _AT_THE_TOP if k in schema}
    return {**top, "allOf": [{k: _moved(v, k) for k, v in schema.items() if k not in top}]}


def _moved(value: Any, key: str = "") -> Any:
    """With references to the parts that are under `allOf` now."""
    if isinstance(value, Mapping):
        return {k: _moved(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_moved(it) for it in value]
    if key == "$ref" and isinstance(value, str) and value.startswith("#/"):
        part = value.split("/")[1]
        return value if part in _AT_THE_TOP else value.replace("#/", "#/allOf/0/", 1)
    return value


_AT_THE_TOP = ("$defs", "definitions", "x-guidance", "$schema")

_SHARED: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "max_tokens": ("max_new_tokens", _whole(1, 1_000_000)),
    "temperature": ("temperature", _number(0, 2)),
    "top_p": ("top_p", _top_p),
    "seed": ("seed", _whole(-MOST_SEED, MOST_SEED - 1)),
    "stop": ("stop", _stop),
    "n": ("num_samples", _samples),
}
_READ: Mapping[str, Mapping[str, tuple[str, Callable[[Any, str], Any]]]] = {
    CHAT: {
        **_SHARED,
        "max_completion_tokens": ("max_new_tokens", _whole(1, 1_000_000)),
        "response_format": ("json_schema", _response_format),
    },
    COMPLETIONS: _SHARED,
}
"""Parameter → the option of a job that it is, and how it is read."""
_NAMES = {option: name for name, (option, _) in reversed(list(_READ[CHAT].items()))}
"""Option → the parameter that people know it by."""
