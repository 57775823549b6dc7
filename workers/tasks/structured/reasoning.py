"""The column of what a model thought before its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from headrace.tasks.generation.answer import Answer
from headrace.tasks.generation.reasoning import COLUMN, split_reasoning


def reasoning_field(samples: int) -> pa.Field:
    """The column; a list where rows have several samples."""
    return pa.field(COLUMN, pa.string() if samples == 1 else pa.list_(pa.string()))


def reasoning_array(output: Sequence[Answer], samples: int) -> pa.Array:
    """Its values, one for each answer."""
    kind = reasoning_field(samples).type
    if samples == 1:
        return pa.array([it.reasoning for it in output], kind)
    return pa.array([[it.reasoning for it in row.samples] for row in output], kind)


def split_apart(answer: Answer, prompt: str) -> Answer:
    """The answer with its reasoning apart, and so its samples; an engine may have done it already."""
    samples = tuple(split_apart(it, prompt) for it in answer.samples)
    if answer.reasoning is not None:
        return replace(answer, samples=samples)
    thought, text = split_reasoning(answer.text, prompt)
    return replace(answer, text=text, reasoning=thought, samples=samples)
