"""The windows of one long context as slices of flat arrays, as the Rust tokenizer cuts them.

The tokenizer's own windows take some 400 bytes per token. Here a long context is tokenized in
pieces that overlap. Where two pieces overlap they must agree, or the context is tokenized whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

PIECE_LETTERS = 1 << 16
"""Letters that are tokenized at once. Chosen: some 10 MB of the tokenizer's own objects."""
OVERLAP_LETTERS = 1 << 11
"""Letters that neighbouring pieces share. Chosen: some hundred words, of which half must agree."""


@dataclass(frozen=True, slots=True)
class FlatTokens:
    """Tokens of a text."""

    ids: np.ndarray
    """int32 `[tokens]`"""
    offsets: np.ndarray
    """Characters of the text, int32 `[tokens, 2]`."""
    words: np.ndarray
    """The word that a token is a piece of, int32 `[tokens]`; -1: of none."""

    @classmethod
    def of(cls, encoding: Any, at: int = 0) -> FlatTokens:
        """Of the tokenizer's own object, for a text that begins at character `at`."""
        count = len(encoding)
        words = (-1 if word is None else word for word in encoding.word_ids)
        return cls(
            np.fromiter(encoding.ids, np.int32, count),
            np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) + np.int32(at),
            np.fromiter(words, np.int32, count),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, stop: int) -> FlatTokens:
        """Tokens from `first` to `stop`, sharing memory."""
        return FlatTokens(self.ids[first:stop], self.offsets[first:stop], self.words[first:stop])

    def followed_by(self, *others: FlatTokens) -> FlatTokens:
        """These tokens, then those of the others."""
        parts = (self, *others)
        return FlatTokens(
            np.concatenate([it.ids for it in parts]),
            np.concatenate([it.offsets for it in parts]),
            np.concatenate([it.words for it in parts]),
        )


def flat_tokens(
    rust: Any, text: str, piece: int = PIECE_LETTERS, overlap: int = OVERLAP_LETTERS
) -> FlatTokens:
    """The tokens of a text without special tokens; `rust` neither cuts nor pads."""
    starts = range(0, max(1, len(text) - overlap), piece - overlap)
    done: list[FlatTokens] = []
    last = _tokens(rust, text[:piece], 0)
    for start in starts[1:]:
        following = _tokens(rust, text[start : start + piece], start)
        cut = _agreement(last, following, start + overlap // 4, start + overlap * 3 // 4)
        if cut is None:
            return _tokens(rust, text, 0)
        stop, first, words = cut
        done.append(last.part(0, stop))
        rest = following.part(first, len(following))
        last = FlatTokens(
            rest.ids, rest.offsets, np.where(rest.words < 0, rest.words, rest.words + words)
        )
    return last if not done else done[0].followed_by(*done[1:], last)


def _tokens(rust: Any, text: str, at: int) -> FlatTokens:
    return FlatTokens.of(rust.encode(text, add_special_tokens=False), at)


def _agreement(
    before: FlatTokens, after: FlatTokens, low: int, high: int
) -> tuple[int, int, int] | None:
    """Where `before` ends and `after` goes on, and what is added to the words of `after`.

    None: the tokens between the characters `low` and `high` are not the same, or there are none.
    """
    (a, b), (c, d) = _between(before, low, high), _between(after, low, high)
    if not b - a or b - a != d - c:
        return None
    mine, theirs = before.part(a, b), after.part(c, d)
    equal = (mine.ids == theirs.ids).all() and (mine.offsets == theirs.offsets).all()
    named = mine.words >= 0
    if not equal or not named.any() or (named != (theirs.words >= 0)).any():
        return None
    shifts = np.unique((mine.words - theirs.words)[named])
    if len(shifts) > 1:
        return None
    middle = (b - a) // 2
    return a + middle, c + middle, int(shifts[0])


def _between(tokens: FlatTokens, low: int, high: int) -> tuple[int, int]:
    inside = np.flatnonzero((tokens.offsets[:, 0] >= low) & (tokens.offsets[:, 1] <= high))
    if not len(inside) or inside[-1] - inside[0] + 1 != len(inside):
        return 0, 0
    return int(inside[0]), int(inside[-1]) + 1


def window_ranges(tokens: int, width: int, stride: int, *, from_end: bool) -> Iterator[slice]:
    """Windows of at most `width` tokens, of which neighbours share `stride`.

    Source: tokenizers 0.22, Encoding::truncate
    """
    step = width - stride
    for start in range(0, tokens, step):
        stop = min(start + width, tokens)
        yield slice(tokens - stop, tokens - start) if from_end else slice(start, stop)
        if stop == tokens:
            return
