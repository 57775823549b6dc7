"""One line of a batch file as OpenAI defines it, checked. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from producers.gateway.batches import chat
from producers.gateway.batches.line_faults import BadLine, encodable
from producers.gateway.records import Endpoint

TASKS: dict[Endpoint, str] = {
    "/v1/embeddings": "feature-extraction",
    "/v1/classifications": "text-classification",
    "/v1/chat/completions": "text-generation",
    "/v1/completions": "text-generation",
}
MOST_TEXTS = 2_048
"""Most texts of one line, as in OpenAI's API."""
MOST_ID = 512
_BODY: dict[Endpoint, set[str]] = {
    "/v1/embeddings": {"model", "input", "encoding_format", "dimensions", "user"},
    "/v1/classifications": {"model", "input", "user"},
}
_LINE = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True, slots=True)
class Line:
    """A valid line."""

    custom_id: str
    texts: list[str]
    same: tuple[str, str, int | None]
    """What must be equal on all lines: model, encoding format, dimensions."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Options of the job that generates; a line with others than the first has an error."""
    fault: BadLine | None = None
    """Why this line alone has no answer; it has no texts then."""


def parse_line(data: bytes, endpoint: Endpoint) -> Line:
    """The request in a line of a batch file.

    Raises:
        BadLine: with OpenAI's code where it has one.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadLine("invalid_json_line", f"This line is not parseable as JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadLine("invalid_json_line", "This line is not a JSON object")
    _refuse_unknown(found, _LINE, "")
    custom_id = found.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MOST_ID:
        raise BadLine("missing_required_parameter", "custom_id must be a string", "custom_id")
    if found.get("method") != "POST":
        raise BadLine("invalid_method", "method must be POST", "method")
    if found.get("url") != endpoint:
        url = str(found.get("url"))[:100]
        raise BadLine(
            "mismatched_endpoint", f"url {url!r} is not the batch's endpoint {endpoint}", "url"
        )
    body = found.get("body")
    if not isinstance(body, dict):
        raise BadLine("missing_required_parameter", "body must be an object", "body")
    custom_id = encodable(custom_id, "custom_id")
    if endpoint in chat.SOURCE:
        return _generating(custom_id, body, endpoint)
    _refuse_unknown(body, _BODY[endpoint], "body.")
    return Line(custom_id, _texts(body.get("input")), _same(body))


def _generating(custom_id: str, body: dict[str, Any], endpoint: Endpoint) -> Line:
    """A line whose answer is written by a model; its fault, if it has one, is its own."""
    same = (_model(body), "float", None)
    try:
        options = chat.options_in(body, endpoint)
        return Line(custom_id, chat.prompts_in(body, endpoint), same, options)
    except BadLine as error:
        return Line(custom_id, [], same, fault=error)


def _refuse_unknown(found: dict[str, Any], known: set[str], where: str) -> None:
    unknown = found.keys() - known
    if unknown:
        name = f"{where}{min(unknown)}"[:100]
        raise BadLine("unknown_parameter", f"{name} is not served here", name)


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= 256:
        raise BadLine("missing_required_parameter", "model must be a string", "body.model")
    return model


def _same(body: dict[str, Any]) -> tuple[str, str, int | None]:
    model = _model(body)
    form = body.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise BadLine("invalid_value", "encoding_format is float or base64", "body.encoding_format")
    width = body.get("dimensions")
    is_whole = isinstance(width, int) and not isinstance(width, bool) and 0 < width < 2**31
    if width is not None and not is_whole:
        raise BadLine("invalid_value", "dimensions is a whole number above 0", "body.dimensions")
    return model, form, width


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise BadLine(
            "invalid_value", "input is a string or a list of strings; token ids are not served",
            "body.input",
        )  # fmt: skip
    if len(texts) > MOST_TEXTS:
        raise BadLine("invalid_value", f"input has more than {MOST_TEXTS} texts", "body.input")
    return [encodable(text, "body.input") for text in texts]
