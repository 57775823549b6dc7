"""Entities in characters of a text as tags of its tokens, and back. Pure.

Every token of an entity has a tag, not the first of each word alone: the first token of an entity
has `B-`, the others `I-`. So entities may begin inside a word, and a reader who groups tokens by
their tags alone finds them whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.entity_tags import OUTSIDE, Span, entities_of_tags

NO_TAG = -100
"""The number that torch's cross-entropy passes over: of tokens that stand for no text."""


def tags_of_spans(
    offsets: np.ndarray, spans: Sequence[Span], number: Mapping[str, int]
) -> np.ndarray:
    """The number of each token's tag, int64 `[tokens]`.

    `offsets` are its characters, int32 `[tokens, 2]`, both 0 for a special token. An entity that
    was cut off has no token, and no tag.

    Raises:
        KeyError: the model has no tag for a label.
    """
    tags = np.full(len(offsets), number[OUTSIDE], dtype=np.int64)
    starts, ends = offsets[:, 0], offsets[:, 1]
    for label, start, end in spans:
        inside = np.flatnonzero((starts < end) & (ends > start))
        tags[inside] = number[f"I-{label}"]
        tags[inside[:1]] = number[f"B-{label}"]
    tags[starts == ends] = NO_TAG
    return tags


def spans_of_tags(offsets: np.ndarray, tags: Sequence[str]) -> list[tuple[Span, int, int]]:
    """The entities of a row's tokens in characters, each with its first and last token.

    Special tokens must be left out, as transformers' pipeline does.
    """
    return [
        ((label, int(offsets[first, 0]), int(offsets[last, 1])), first, last)
        for label, first, last in entities_of_tags(tags)
    ]
