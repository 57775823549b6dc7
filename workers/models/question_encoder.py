"""A question and a long context as several rows of tokens: the question with each window of it.

The windows are those that the Rust tokenizer cuts: neighbouring ones share `stride` tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from headrace.tasks.fan_out import FanOut
from schemas.errors import InvalidRow, ModelError
from workers.models.tokenizer import SLICE_LETTERS, slices_of


@dataclass(frozen=True, slots=True)
class WindowTokens:
    """Where the tokens of one window lie in the context; for each token of its row."""

    offsets: np.ndarray
    """Characters, int32 `[tokens, 2]`: of the context where `in_context`, else of the question."""
    words: np.ndarray
    """The word that a token is a piece of, int32 `[tokens]`; -1: of none."""
    in_context: np.ndarray
    """bool `[tokens]`"""
    may_answer: np.ndarray
    """bool `[tokens]`: tokens of the context, and the model's token for no answer (`[CLS]`)."""

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Start and end of an answer from token `first` to `last`, widened to whole words.

        Source: transformers 4.57, QuestionAnsweringPipeline.get_indices
        """
        opening, closing = self._word(first), self._word(last)
        if opening is None or closing is None:
            return int(self.offsets[first, 0]), int(self.offsets[last, 1])
        return int(self.offsets[opening[0], 0]), int(self.offsets[closing[-1], 1])

    def _word(self, token: int) -> np.ndarray | None:
        """The tokens in the context of the same word; None where there is no such word."""
        if self.words[token] < 0:
            return None
        found = np.flatnonzero((self.words == self.words[token]) & self.in_context)
        return found if len(found) else None


class QuestionEncoder:
    """Questions and contexts to items, one for each window of a context; thread-safe."""

    def __init__(self, tokenizer: Any, max_length: int, stride: int) -> None:
        """`tokenizer` is copied: truncation is another one here.

        Raises:
            ModelError: it is written in Python, and gives no position of a token in its text.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"its tokenizer, {type(tokenizer).__name__}, is written in Python and gives no "
                "position of a token in its text, which the task needs"
            )
        self._max_length, self._stride = max_length, stride
        self.question_first = tokenizer.padding_side == "right"
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._no_answer = tokenizer.cls_token_id
        self._whole = copy.deepcopy(tokenizer.backend_tokenizer)
        self._whole.no_padding()
        self._whole.no_truncation()
        self._whole.encode_special_tokens = tokenizer.split_special_tokens
        self._special = self._whole.num_special_tokens_to_add(True)
        self._cutting = copy.deepcopy(self._whole)
        self._cutting.enable_truncation(
            max_length,
            stride=stride,
            strategy="only_second" if self.question_first else "only_first",
            direction=tokenizer.truncation_side,
        )

    def __call__(self, questions: Sequence[str], contexts: Sequence[str]) -> Encodings:
        """Row i is `questions[i]` about `contexts[i]`; nothing is left out of a context.

        Raises:
            InvalidRow: a question or a context is empty, or a question leaves too little room.
        """
        fits = self._fits(questions)
        for question, context in zip(questions, contexts, strict=True):
            if not question or not context:
                raise InvalidRow(f"the {'context' if question else 'question'} is empty")
        parts = [
            [self._item(window) for window in windows]
            for windows in self._windows(questions, contexts, fits)
        ]
        items = list(chain.from_iterable(parts))
        counts = np.cumsum([len(part) for part in parts], dtype=np.int64)
        lengths = np.cumsum([len(ids) for ids, _, _ in items], dtype=np.int64)
        return Encodings(
            ids=np.concatenate([ids for ids, _, _ in items]),
            offsets=np.concatenate(([0], lengths)),
            truncated=np.zeros(len(items), dtype=bool),
            type_ids=np.concatenate([types for _, types, _ in items])
            if self._takes_types
            else None,
            extra=[spans for _, _, spans in items],
            fan=FanOut(np.concatenate(([0], counts)), np.arange(len(items)), list(contexts)),
        )

    def _fits(self, questions: Sequence[str]) -> Callable[[str], bool]:
        """Whether a question leaves room for more of a context than neighbouring windows share."""
        each = list(dict.fromkeys(questions))
        found = self._whole.encode_batch_fast(each, add_special_tokens=False)
        most = self._max_length - self._special - self._stride
        short = {text for text, it in zip(each, found, strict=True) if len(it.ids) < most}
        return short.__contains__

    def _windows(
        self, questions: Sequence[str], contexts: Sequence[str], fits: Callable[[str], bool]
    ) -> Iterator[list[Any]]:
        """The tokenizer's own objects for each row, one for each window."""
        sizes = [len(q) + len(c) for q, c in zip(questions, contexts, strict=True)]
        for first, stop in slices_of(sizes, SLICE_LETTERS):
            rows = list(zip(questions[first:stop], contexts[first:stop], strict=True))
            pairs = [row if self.question_first else row[::-1] for row in rows]
            roomy = [fits(question) for question, _ in rows]
            to_cut = [pair for pair, has_room in zip(pairs, roomy, strict=True) if has_room]
            cut = iter(self._cutting.encode_batch(to_cut))
            for (question, _), pair, has_room in zip(rows, pairs, roomy, strict=True):
                if has_room:
                    found = next(cut)
                    yield [found, *found.overflowing]
                else:
                    yield [self._at_once(question, pair)]

    def _at_once(self, question: str, pair: tuple[str, str]) -> Any:
        """A context that needs no windows beside a long question."""
        found = self._whole.encode(*pair)
        if len(found.ids) > self._max_length:
            length = len(self._whole.encode(question, add_special_tokens=False).ids)
            room = max(0, self._max_length - self._special - length)
            raise InvalidRow(
                f"the question has {length} tokens and leaves {room} of {self._max_length} for the "
                f"context, not more than the {self._stride} that windows share: see --max-length "
                "and --stride"
            )
        return found

    def _item(self, encoding: Any) -> tuple[np.ndarray, np.ndarray, WindowTokens]:
        """Ids and token types, int32 `[tokens]`, and where they lie."""
        ids = np.array(encoding.ids, dtype=np.int32)
        which = 1 if self.question_first else 0
        inside = np.array([it == which for it in encoding.sequence_ids], dtype=bool)
        words = [-1 if word is None else word for word in encoding.word_ids]
        spans = WindowTokens(
            offsets=np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2),
            words=np.array(words, dtype=np.int32),
            in_context=inside,
            may_answer=inside | (ids == self._no_answer) if self._no_answer is not None else inside,
        )
        return ids, np.array(encoding.type_ids, dtype=np.int32), spans
