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
from workers.models.context_windows import FlatTokens, flat_tokens, window_ranges
from workers.models.tokenizer import SLICE_LETTERS_CPU, slices_of

LONG_LETTERS = 1 << 14
"""Longer contexts are tokenized once, and not window by window. Chosen: some ten windows."""
PROBE = (
    " Anna  works\tat\n Acme, in Berlin. Café 中文字 😀 e\u0301 unhappily [SEP] <s> 3.14 don't " * 4
)
PROBE_WORD = "a"
PROBE_WIDTH, PROBE_STRIDE = 17, 5


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


@dataclass(frozen=True, slots=True)
class ItemTokens:
    """One item: the question, a window and special tokens."""

    ids: np.ndarray
    """int32 `[tokens]`"""
    types: np.ndarray
    """int32 `[tokens]`"""
    where: WindowTokens


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
        self._side = tokenizer.truncation_side
        self._flat = self._is_flat()
        self._cut_at(max_length, stride)

    def _cut_at(self, max_length: int, stride: int) -> None:
        self._cutting.enable_truncation(
            max_length,
            stride=stride,
            strategy="only_second" if self.question_first else "only_first",
            direction=self._side,
        )

    def _is_flat(self) -> bool:
        """Whether windows are slices of the whole text's tokens, tried on a short text.

        They are not where a processor changes the first token of each window: RoBERTa's own with
        `add_prefix_space` leaves it the space before it. Token types of some windows are others
        too (tokenizers 0.22), which is no matter where the model takes none.
        """
        question = " who works?"
        length = len(self._whole.encode(question, add_special_tokens=False).ids)
        max_length = self._special + length + PROBE_WIDTH
        self._cut_at(max_length, PROBE_STRIDE)
        found = self._cutting.encode(*self._pair(question, PROBE))
        theirs = [self._item(window) for window in [found, *found.overflowing]]
        ours = list(self._sliced(question, PROBE, max_length, PROBE_STRIDE))
        return len(ours) == len(theirs) and all(
            are_equal(one, other, with_types=self._takes_types)
            for one, other in zip(ours, theirs, strict=True)
        )

    def _pair(self, question: str, context: str) -> tuple[str, str]:
        return (question, context) if self.question_first else (context, question)

    def __call__(self, questions: Sequence[str], contexts: Sequence[str]) -> Encodings:
        """Row i is `questions[i]` about `contexts[i]`; nothing is left out of a context.

        Raises:
            InvalidRow: a question or a context is empty, or a question leaves too little room.
        """
        fits = self._fits(questions)
        for question, context in zip(questions, contexts, strict=True):
            if not question or not context:
                raise InvalidRow(f"the {'context' if question else 'question'} is empty")
        parts = list(self._windows(questions, contexts, fits))
        items = list(chain.from_iterable(parts))
        counts = np.cumsum([len(part) for part in parts], dtype=np.int64)
        lengths = np.cumsum([len(it.ids) for it in items], dtype=np.int64)
        return Encodings(
            ids=np.concatenate([it.ids for it in items]),
            offsets=np.concatenate(([0], lengths)),
            truncated=np.zeros(len(items), dtype=bool),
            type_ids=np.concatenate([it.types for it in items]) if self._takes_types else None,
            extra=[it.where for it in items],
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
    ) -> Iterator[list[ItemTokens]]:
        """The items of each row, one for each window."""
        sizes = [len(q) + len(c) for q, c in zip(questions, contexts, strict=True)]
        for first, stop in slices_of(sizes, SLICE_LETTERS_CPU):
            rows = list(zip(questions[first:stop], contexts[first:stop], strict=True))
            roomy = [fits(question) for question, _ in rows]
            long = [self._flat and len(context) > LONG_LETTERS for _, context in rows]
            to_cut = [
                self._pair(*row)
                for row, has_room, is_long in zip(rows, roomy, long, strict=True)
                if has_room and not is_long
            ]
            cut = iter(self._cutting.encode_batch(to_cut))
            for row, has_room, is_long in zip(rows, roomy, long, strict=True):
                if not has_room:
                    yield [self._item(self._at_once(*row))]
                elif is_long:
                    yield list(self._sliced(*row, self._max_length, self._stride))
                else:
                    found = next(cut)
                    yield [self._item(window) for window in [found, *found.overflowing]]

    def _sliced(
        self, question: str, context: str, max_length: int, stride: int
    ) -> Iterator[ItemTokens]:
        """The items of a long context, from its tokens that are made once."""
        tokens = flat_tokens(self._whole, context)
        beside = self._item(self._whole.encode(*self._pair(question, PROBE_WORD)))
        inside = np.flatnonzero(beside.where.in_context)
        if not len(inside) or not len(tokens):  # a tokenizer that drops the word, or a blank text
            yield self._item(self._whole.encode(*self._pair(question, context)))
            return
        frame = _Frame.around(beside, int(inside[0]), int(inside[-1]) + 1)
        width = max_length - frame.tokens
        for window in window_ranges(len(tokens), width, stride, from_end=self._side == "left"):
            yield frame.item(tokens.part(window.start, window.stop), self._no_answer)

    def _at_once(self, question: str, context: str) -> Any:
        """A context that needs no windows beside a long question."""
        found = self._whole.encode(*self._pair(question, context))
        if len(found.ids) > self._max_length:
            length = len(self._whole.encode(question, add_special_tokens=False).ids)
            room = max(0, self._max_length - self._special - length)
            raise InvalidRow(
                f"the question has {length} tokens and leaves {room} of {self._max_length} for the "
                f"context, not more than the {self._stride} that windows share: see --max-length "
                "and --stride"
            )
        return found

    def _item(self, encoding: Any) -> ItemTokens:
        """The same of the tokenizer's own object."""
        tokens = FlatTokens.of(encoding)
        which = 1 if self.question_first else 0
        inside = np.fromiter((it == which for it in encoding.sequence_ids), bool, len(tokens))
        types = np.fromiter(encoding.type_ids, np.int32, len(tokens))
        return _item_of(tokens, types, inside, self._no_answer)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The tokens before and after each window of one context: the question, special tokens."""

    before: FlatTokens
    after: FlatTokens
    types: tuple[np.ndarray, int, np.ndarray]
    """Before the window, of each of its tokens, after it."""

    @classmethod
    def around(cls, item: ItemTokens, first: int, stop: int) -> _Frame:
        """Of an item whose window is its tokens from `first` to `stop`."""
        tokens = FlatTokens(item.ids, item.where.offsets, item.where.words)
        return cls(
            tokens.part(0, first),
            tokens.part(stop, len(tokens)),
            (item.types[:first], int(item.types[first]), item.types[stop:]),
        )

    @property
    def tokens(self) -> int:
        return len(self.before) + len(self.after)

    def item(self, window: FlatTokens, no_answer: int | None) -> ItemTokens:
        before, of_window, after = self.types
        first, stop = len(self.before), len(self.before) + len(window)
        inside = np.zeros(stop + len(self.after), dtype=bool)
        inside[first:stop] = True
        types = np.full(len(inside), of_window, dtype=np.int32)
        types[:first], types[stop:] = before, after
        return _item_of(self.before.followed_by(window, self.after), types, inside, no_answer)


def _item_of(
    tokens: FlatTokens, types: np.ndarray, inside: np.ndarray, no_answer: int | None
) -> ItemTokens:
    may_answer = inside if no_answer is None else inside | (tokens.ids == no_answer)
    return ItemTokens(
        tokens.ids, types, WindowTokens(tokens.offsets, tokens.words, inside, may_answer)
    )


def are_equal(one: ItemTokens, other: ItemTokens, *, with_types: bool) -> bool:
    """Whether all arrays of two items are the same; token types only if asked."""
    pairs = [(one.ids, other.ids)] + [
        (getattr(one.where, name), getattr(other.where, name))
        for name in ("offsets", "words", "in_context", "may_answer")
    ]
    if with_types:
        pairs.append((one.types, other.types))
    return all(np.array_equal(a, b) for a, b in pairs)
