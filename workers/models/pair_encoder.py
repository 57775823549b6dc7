"""Many pairs of few texts: each text is tokenized once, and the pairs are joined from their tokens.

A row against twenty labels would be tokenized twenty times by the tokenizer's own call for pairs.
Where the special tokens of a pair lie is read from one pair that the tokenizer encodes itself. What
comes out is compared with the tokenizer's own pairs on odd texts when a model is loaded; where they
differ, every pair goes through the tokenizer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np

from headrace.process.logs import get_logger
from headrace.tasks.contract import Encodings
from schemas.errors import InvalidRow
from workers.models.flat_tokenizer import ODD_TEXTS
from workers.models.tokenizer import SLICE_LETTERS, slices_of

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as tokens without special ones, flat, cut to max-length; the texts beside them."""

    texts: Sequence[str]
    ids: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class PairShape:
    """A pair is before, first text, between, second text, after; each with its token types."""

    parts: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Special tokens before, between and after."""
    types: tuple[np.ndarray, int, np.ndarray, int, np.ndarray]

    @property
    def special(self) -> int:
        return sum(map(len, self.parts))


class PairEncoder:
    """Pairs of texts of which only the first is truncated; thread-safe."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """`tokenizer` is copied: truncation is another one here."""
        self._own = copy.deepcopy(tokenizer)
        self._max_length = max_length
        self._from_left = tokenizer.truncation_side == "left"
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._one_at_a_time = Lock()
        self._rust: Any = None
        self._shape: PairShape | None = None
        if getattr(tokenizer, "is_fast", False):
            self._rust = copy.deepcopy(tokenizer.backend_tokenizer)
            self._rust.no_padding()
            self._rust.encode_special_tokens = tokenizer.split_special_tokens
            self._shape = _shape_of(self._rust)
            self._rust.enable_truncation(max_length, direction=tokenizer.truncation_side)
            if self._shape is not None and not self._agrees():
                log.warning("tokenizer.pairs_differ")
                self._shape = None

    @property
    def joins(self) -> bool:
        """False: each pair goes through the tokenizer."""
        return self._shape is not None

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """The texts as tokens; without any where pairs are not joined here."""
        if self._shape is None:
            return Tokens(texts, np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64))
        ids: list[list[int]] = []
        for first, stop in slices_of([len(text) for text in texts], SLICE_LETTERS):
            piece = list(texts[first:stop])
            ids += [it.ids for it in self._rust.encode_batch_fast(piece, add_special_tokens=False)]
        offsets = np.concatenate(([0], np.cumsum([len(it) for it in ids], dtype=np.int64)))
        return Tokens(texts, _flat(ids), offsets)

    def room(self, seconds: Tokens) -> np.ndarray:
        """Tokens that each second text leaves for a first one, int64 `[texts]`; may be negative."""
        if self._shape is not None:
            return np.asarray(self._max_length - self._shape.special - seconds.lengths)
        with self._one_at_a_time:
            sizes = [len(self._own("", text)["input_ids"]) for text in seconds.texts]
        return self._max_length - np.array(sizes, dtype=np.int64)

    def pairs(
        self, firsts: Tokens, seconds: Tokens, first_of: np.ndarray, second_of: np.ndarray
    ) -> Encodings:
        """Item i is the pair of `first_of[i]` and `second_of[i]`.

        Raises:
            InvalidRow: a second text leaves no room for the first.
        """
        if self._shape is None:
            return self._by_tokenizer(firsts, seconds, first_of, second_of)
        return self._joined(self._shape, firsts, seconds, first_of, second_of)

    def _joined(
        self,
        shape: PairShape,
        firsts: Tokens,
        seconds: Tokens,
        first_of: np.ndarray,
        second_of: np.ndarray,
    ) -> Encodings:
        count, whole = len(first_of), firsts.lengths[first_of]
        room = self.room(seconds)[second_of]
        cut = whole > room
        _check_room(cut & (room < 1), seconds, second_of)
        kept = np.minimum(whole, room)
        skipped = whole - kept if self._from_left else 0
        # one array of all tokens, and of each item five pieces of it
        source = np.concatenate([firsts.ids, seconds.ids, *shape.parts])
        specials = len(firsts.ids) + len(seconds.ids)
        ends = specials + np.cumsum([len(part) for part in shape.parts])
        starts, sizes = np.empty((count, 5), np.int64), np.empty((count, 5), np.int64)
        for column, part, end in zip((0, 2, 4), shape.parts, ends.tolist(), strict=True):
            starts[:, column], sizes[:, column] = end - len(part), len(part)
        starts[:, 1], sizes[:, 1] = firsts.offsets[first_of] + skipped, kept
        starts[:, 3] = len(firsts.ids) + seconds.offsets[second_of]
        sizes[:, 3] = seconds.lengths[second_of]
        flat = sizes.reshape(-1)
        before = np.cumsum(flat) - flat
        at = np.repeat(starts.reshape(-1) - before, flat) + np.arange(int(flat.sum()))
        offsets = np.concatenate(([0], np.cumsum(sizes.sum(axis=1))))
        return Encodings(
            ids=source[at],
            offsets=offsets,
            truncated=cut,
            type_ids=self._types(shape, len(firsts.ids), len(seconds.ids), at),
        )

    def _types(
        self, shape: PairShape, firsts: int, seconds: int, at: np.ndarray
    ) -> np.ndarray | None:
        if not self._takes_types:
            return None
        before, first, between, second, after = shape.types
        source = np.concatenate(
            [np.full(firsts, first), np.full(seconds, second), before, between, after]
        )
        return np.asarray(source.astype(np.int32)[at])

    def _by_tokenizer(
        self, firsts: Tokens, seconds: Tokens, first_of: np.ndarray, second_of: np.ndarray
    ) -> Encodings:
        ids, types, cut = [], [], []
        for first, second in zip(first_of.tolist(), second_of.tolist(), strict=True):
            with self._one_at_a_time:
                row, type_ids, truncated = self._pair(firsts.texts[first], seconds.texts[second])
            ids.append(row)
            types.append(type_ids)
            cut.append(truncated)
        offsets = np.concatenate(([0], np.cumsum([len(it) for it in ids], dtype=np.int64)))
        return Encodings(
            _flat(ids), offsets, np.array(cut, bool), _flat(types) if self._takes_types else None
        )

    def _pair(self, first: str, second: str) -> tuple[list[int], list[int], bool]:
        whole = self._own(first, second)
        cut = len(whole["input_ids"]) > self._max_length
        if cut:
            try:
                whole = self._own(
                    first, second, truncation="only_first", max_length=self._max_length
                )
            except (
                Exception
            ) as error:  # a bare Exception from Rust: nothing of the first would stay
                raise _no_room(second) from error
            if len(whole["input_ids"]) > self._max_length:
                raise _no_room(second)
        ids = list(whole["input_ids"])
        return ids, list(whole.get("token_type_ids", ())) or [0] * len(ids), cut

    def _agrees(self) -> bool:
        """Whether joined pairs are those of the tokenizer, on odd texts, short and too long."""
        long = "The weather is fine today, is it not? " * (min(self._max_length, 4096) // 8 + 2)
        firsts = [*ODD_TEXTS, long]
        seconds = ["This example is fine.", "it is bad", *ODD_TEXTS[3:12]]
        tokens, others = self.tokens(firsts), self.tokens(seconds)
        first_of = np.repeat(np.arange(len(firsts)), 2)
        second_of = np.arange(len(first_of)) % len(seconds)
        room = self.room(others)
        fits = (tokens.lengths[first_of] <= room[second_of]) | (room[second_of] > 0)
        first_of, second_of = first_of[fits], second_of[fits]
        ours = self.pairs(tokens, others, first_of, second_of)
        try:
            theirs = self._by_tokenizer(tokens, others, first_of, second_of)
        except Exception:  # whatever a tokenizer raises for a pair
            return False
        same = [
            np.array_equal(getattr(ours, name), getattr(theirs, name))
            for name in ("ids", "offsets", "truncated")
        ]
        if ours.type_ids is not None and theirs.type_ids is not None:
            same.append(np.array_equal(ours.type_ids, theirs.type_ids))
        return all(same)


def _check_room(full: np.ndarray, seconds: Tokens, second_of: np.ndarray) -> None:
    if full.any():
        raise _no_room(seconds.texts[int(second_of[full][0])])


def _no_room(second: str) -> InvalidRow:
    return InvalidRow(
        f"{second[:80]!r} is as long as a row may be and leaves no room for the text: see --max-length"
    )


def _shape_of(rust: Any) -> PairShape | None:
    """Where special tokens lie in a pair; None where the second text comes first."""
    rust.no_truncation()
    found = rust.encode("a b", "b a")
    which = list(found.sequence_ids)
    if 0 not in which or 1 not in which:
        return None
    first, second = which.index(0), which.index(1)
    first_end = len(which) - which[::-1].index(0)
    second_end = len(which) - which[::-1].index(1)
    if not first < first_end <= second < second_end:
        return None
    ids, types = np.array(found.ids, np.int32), np.array(found.type_ids, np.int32)
    return PairShape(
        (ids[:first], ids[first_end:second], ids[second_end:]),
        (types[:first], int(types[first]), types[first_end:second], int(types[second]),
         types[second_end:]),
    )  # fmt: skip


def _flat(rows: list[list[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=sum(map(len, rows)))
