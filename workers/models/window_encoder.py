"""A long text as several rows of tokens, each with its own special tokens: its windows.

The windows are those that the Rust tokenizer cuts: neighbouring ones share `stride` tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from headrace.tasks.fan_out import FanOut
from schemas.errors import ModelError
from workers.models.tokenizer import Encoder, slices_of


class WindowEncoder(Encoder):
    """Texts to items, one for each window; `__call__` is thread-safe."""

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        stride: int,
        *,
        stand_in: int,
        extra: Callable[[str, Any], Any] | None,
    ) -> None:
        """As `Encoder`; `tokenizer` is copied, since truncation is another one here.

        Raises:
            ModelError: it is written in Python, and cuts no windows.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"its tokenizer, {type(tokenizer).__name__}, is written in Python and cuts no windows"
            )
        super().__init__(copy.deepcopy(tokenizer), max_length, stand_in=stand_in, extra=extra)
        self._rust.enable_truncation(
            max_length,
            stride=stride,
            strategy="longest_first",
            direction=tokenizer.truncation_side,
        )

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """The windows of the texts, in order; nothing is left out of a text."""
        rows = [
            [found, *found.overflowing]
            for piece in self._slices(list(texts), self._cuts(texts))
            for found in piece
        ]
        counts = [len(row) for row in rows]
        whole = [text for text, count in zip(texts, counts, strict=True) for _ in range(count)]
        items = self._part(list(chain.from_iterable(rows)), whole, paired=False)
        return Encodings(
            ids=items.ids,
            offsets=items.offsets,
            truncated=np.zeros(len(items), dtype=bool),
            type_ids=items.type_ids,
            extra=items.extra,
            fan=FanOut(np.concatenate(([0], np.cumsum(counts))), np.arange(len(items))),
        )

    def _cuts(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        return slices_of([len(text) for text in texts], self._slice_letters)
