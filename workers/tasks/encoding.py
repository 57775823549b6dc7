"""Texts to token ids by the Rust tokenizer: all at once, on its own threads, truncated there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np

from workers.tasks.base import Encodings


class Encoder:
    """A tokenizer with its truncation set once; `__call__` is safe for threads.

    It talks to the Rust tokenizer itself: transformers' own call sets and unsets truncation on the
    shared tokenizer each time, and builds Python objects that nobody reads here.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        stand_in: int = 0,
        extra: Callable[[str, Any], Any] | None = None,
    ) -> None:
        """`stand_in` is the token of a text that gives none; no model takes a row of nothing.

        `extra` makes what `decode` needs for a row, from its text and its encoding.
        """
        self._rust = tokenizer.backend_tokenizer
        self._rust.no_padding()
        # as transformers' truncation=True
        self._rust.enable_truncation(
            max_length, strategy="longest_first", direction=tokenizer.truncation_side
        )
        self._rust.encode_special_tokens = tokenizer.split_special_tokens
        self._max_length = max_length
        self._extra = extra
        # without offsets it is faster, and only `extra` reads them
        self._encode = self._rust.encode_batch if extra else self._rust.encode_batch_fast
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._types_all_zero = not any(self._rust.encode("a").type_ids)
        self._stand_in = stand_in

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of the texts. A text that gives no token gets the stand-in.

        An empty second text is no second text, as in the transformers pipeline.
        """
        rows = (
            list(texts)
            if pairs is None
            else [(a, b) if b else a for a, b in zip(texts, pairs, strict=True)]
        )
        encoded = self._encode(rows, add_special_tokens=True)
        ids = [e.ids or [self._stand_in] for e in encoded]
        return Encodings(
            ids=_flat(ids),
            offsets=np.array([0, *accumulate(map(len, ids))], dtype=np.int64),
            truncated=np.array([self._is_truncated(e) for e in encoded], dtype=bool),
            type_ids=self._types(encoded, pairs is not None),
            extra=None
            if self._extra is None
            else [self._extra(text, e) for text, e in zip(texts, encoded, strict=True)],
        )

    def _is_truncated(self, encoding: Any) -> bool:
        # `overflowing` builds objects: ask only rows that are as long as a row can be
        return len(encoding) >= self._max_length and bool(encoding.overflowing)

    def _types(self, encoded: list[Any], paired: bool) -> np.ndarray | None:
        """None where the model takes none, or where they are zeros, which models assume."""
        if not self._takes_types or (self._types_all_zero and not paired):
            return None
        return _flat([e.type_ids or [0] for e in encoded])


def _flat(rows: list[list[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=sum(map(len, rows)))
