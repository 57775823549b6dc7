"""Splits what a model thinks from what it answers. Pure.

Models that reason write it between `<think>` and `</think>`: Qwen3, DeepSeek R1 and those made of
them. Some templates end a prompt with the first marker, so that an answer begins inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.errors import ConfigError

COLUMN = "reasoning"
BEGIN, END = "<think>", "</think>"


def reasoning_columns(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The column that the option adds."""
    return (COLUMN,) if params.get("split_reasoning") else ()


def check_reasoning(params: Mapping[str, Any]) -> None:
    """Check the option beside the others.

    Raises:
        ConfigError: answers have a given form, which leaves no place for reasoning.
    """
    if params.get("split_reasoning") and any(params.get(n) for n in ("json_schema", "choices")):
        raise ConfigError(
            "--split-reasoning and --schema or --choices exclude one another: an answer of a given "
            "form has no reasoning"
        )


def split_reasoning(text: str, prompt: str) -> tuple[str | None, str]:
    """Reasoning and answer, both without white space around them; no reasoning: None, and the text.

    An answer that was cut inside its reasoning is empty.
    """
    begins = text.lstrip().startswith(BEGIN)
    thought, end, answer = text.partition(END)
    if not end and not begins and not prompt.rstrip().endswith(BEGIN):
        return None, text
    return thought.strip().removeprefix(BEGIN).strip(), answer.strip()
