"""Options of question answering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.tasks.items.window_shape import WindowShape
from schemas.errors import ConfigError

USUAL_LENGTH = 384
"""Tokens of a window, question and special tokens included, where no option says so and the model
takes that many. Source: transformers 4.57, QuestionAnsweringPipeline.preprocess"""
USUAL_STRIDE = 128
"""Tokens that neighbouring windows share, or half a window if that is less. Source: as above."""

ASSUMED_QUESTION = "What does the text say of that?"
"""For estimates, where questions come from a column."""


def settle(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same parameters.

    Raises:
        ConfigError: the question is given twice or not at all, or is empty; a number is too small.
    """
    question, column = params.get("question"), params.get("question_column")
    if (question is None) == (column is None):
        raise ConfigError(
            "question-answering needs --question, one for all rows, or --question-column, one of both"
        )
    if question is not None and not question.strip():
        raise ConfigError("--question is empty")
    for name, least in (("top_k", 1), ("max_answer_len", 1), ("stride", 0)):
        value = params.get(name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: at least {least}")
    return params


def stride_of(params: Mapping[str, Any], max_length: int) -> int:
    """Tokens that neighbouring windows of `max_length` tokens share.

    Raises:
        ConfigError: so many that a window would hold nothing new.
    """
    given: int | None = params.get("stride")
    if given is None:
        return min(max_length // 2, USUAL_STRIDE)
    if given >= max_length:
        raise ConfigError(f"--stride {given} must be less than the {max_length} tokens of a window")
    return given


def window_shape(params: Mapping[str, Any], limit: int, is_asked: bool) -> WindowShape:
    """The windows of a context, the question and special tokens in each; for estimates."""
    tokens = limit if is_asked else min(limit, USUAL_LENGTH)
    question = params.get("question") or ASSUMED_QUESTION
    given = params.get("stride")
    shared = min(tokens // 2, USUAL_STRIDE) if given is None else given
    return WindowShape(tokens, shared, len(question.encode()))
