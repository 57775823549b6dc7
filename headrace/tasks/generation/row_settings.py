"""Settings of single rows of a job that generates, from a column of JSON. Pure, for both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.errors import ConfigError, InvalidRow

COLUMN = "row_settings_column"
LENGTH, SEED = "max_new_tokens", "seed"
OWN: Mapping[str, type] = {
    LENGTH: int, "temperature": float, "top_p": float, "top_k": int, SEED: int, "stop": str,
}  # fmt: skip
"""Options that a row may have of its own."""
ASSUMED_LENGTH = 256
"""The most tokens of an answer, for estimates, where rows alone say it. Chosen."""


def has_own(params: Mapping[str, Any]) -> bool:
    """Whether rows have settings of their own."""
    return params.get(COLUMN) is not None


def own_settings(text: str) -> dict[str, Any]:
    """A row's settings, by the names of options; a null is none. `stop` is as `--stop` has it.

    Raises:
        InvalidRow: they are no JSON object, or hold another name or type.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRow(f"the row's settings are not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRow("the row's settings are no JSON object")
    return {name: _value(name, value) for name, value in found.items() if value is not None}


def check_engine(engine: str, takes: bool, params: Mapping[str, Any]) -> None:
    """Check that the job's engine can give rows settings of their own, if they have any.

    Raises:
        ConfigError: it cannot.
    """
    if has_own(params) and not takes:
        raise ConfigError(
            f"--engine {engine} writes all answers of a job alike: leave --row-settings-column "
            "out, or use --engine transformers"
        )


def _value(name: str, value: Any) -> Any:
    kind = OWN.get(name)
    if kind is None:
        raise InvalidRow(f"{name[:80]!r} is no setting of a row; those are {', '.join(OWN)}")
    if name == "stop" and isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and (is_whole or isinstance(value, float)):
        return float(value)
    if (kind is int and is_whole) or (kind is str and isinstance(value, str)):
        return value
    raise InvalidRow(f"the row's {name} is {json.dumps(value)[:80]}, no {kind.__name__}")
