"""Texts to token ids: by the Rust tokenizer all at once, by one in Python row by row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, chain, pairwise
from threading import Lock
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from schemas.errors import ModelError
from workers.models.flat_tokenizer import FlatEncoder, flat_encoder
from workers.models.load import text_config_of

# Letters given to the tokenizer at once. What it returns takes some 100 bytes per token, and as much
# again for what truncation cuts off: 8,192 rows of 4 kB at once came to 1.7 GB. Chosen: enough to
# keep its threads busy for a tenth of a second, under 100 MB.
SLICE_LETTERS = 1 << 19
# A CPU's worker has few threads. Rows of 1 kB took 40 MB less at the same speed (measured).
SLICE_LETTERS_CPU = 1 << 17


class Encoder:
    """A tokenizer with its truncation set once; `__call__` is thread-safe.

    It calls the Rust tokenizer directly: transformers' own call sets and unsets truncation on the
    shared tokenizer each time, and builds Python objects that are not needed here.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        stand_in: int = 0,
        extra: Callable[[str, Any], Any] | None = None,
        slice_letters: int = SLICE_LETTERS,
        ahead: bool = False,
        empty_is_a_text: bool = False,
    ) -> None:
        """`stand_in` is the token of a text that gives none; no model takes a row of nothing.

        `extra` makes what `decode` needs for a row, from its text and its encoding. `ahead`: the
        tokenizer works on the next slice while the ids of the last are taken, which is a fourth of
        the time on 16 cores, and memory for one more slice.
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
        self._slice_letters = slice_letters
        # without offsets it is faster, and only `extra` reads them
        self._encode = self._rust.encode_batch if extra else self._rust.encode_batch_fast
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._types_all_zero = not any(self._rust.encode("a").type_ids)
        self._stand_in = stand_in
        self._ahead = ahead
        self._empty_is_a_text = empty_is_a_text

    @property
    def gives_types(self) -> bool:
        """Whether single texts get token types, as few models want them."""
        return self._takes_types and not self._types_all_zero

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of the texts. A text that gives no token gets the stand-in.

        An empty second text is no second text, as in the transformers pipeline; with
        `empty_is_a_text` it makes a pair.
        """
        rows = (
            list(texts)
            if pairs is None
            else [
                (a, b) if b or self._empty_is_a_text else a
                for a, b in zip(texts, pairs, strict=True)
            ]
        )
        paired = pairs is not None
        sizes = [len(r[0]) + len(r[1]) if isinstance(r, tuple) else len(r) for r in rows]
        cuts = slices_of(sizes, self._slice_letters)
        encoded = self._slices(rows, cuts)
        parts = [
            self._part(found, texts[a:b], paired)
            for found, (a, b) in zip(encoded, cuts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _slices(self, rows: list[Any], cuts: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """The tokenizer's own objects, slice by slice; `encode_batch` leaves the interpreter free."""
        if not self._ahead or len(cuts) == 1:
            for a, b in cuts:
                yield self._encode(rows[a:b], add_special_tokens=True)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="headrace-tokenize") as pool:
            coming: deque[Future[Any]] = deque()
            for a, b in cuts:
                coming.append(pool.submit(self._encode, rows[a:b], add_special_tokens=True))
                if len(coming) > 1:
                    yield coming.popleft().result()
            yield coming.popleft().result()

    def _part(self, encoded: Sequence[Any], texts: Sequence[str], paired: bool) -> Encodings:
        ids = [e.ids or [self._stand_in] for e in encoded]
        return Encodings(
            ids=_flat(ids),
            offsets=np.array([0, *accumulate(map(len, ids))], dtype=np.int64),
            truncated=np.array([self._is_truncated(e) for e in encoded], dtype=bool),
            type_ids=self._types(encoded, paired),
            extra=None
            if self._extra is None
            else [self._extra(text, e) for text, e in zip(texts, encoded, strict=True)],
        )

    def _is_truncated(self, encoding: Any) -> bool:
        # `overflowing` builds objects: ask only rows that are as long as a row can be
        return len(encoding) >= self._max_length and bool(encoding.overflowing)

    def _types(self, encoded: Sequence[Any], paired: bool) -> np.ndarray | None:
        """None where the model takes none, or where they are zeros, which models assume."""
        if not (self.gives_types or (self._takes_types and paired)):
            return None
        return _flat([e.type_ids or [0] for e in encoded])


class PythonEncoder:
    """A tokenizer written in Python, by its own call; `__call__` is thread-safe.

    It knows no character offsets. One text at a time passes through it, holding the interpreter.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        stand_in: int = 0,
        empty_is_a_text: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._empty_is_a_text = empty_is_a_text
        self._max_length = max_length
        self._stand_in = stand_in
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._one_at_a_time = Lock()

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """As `Encoder`."""
        with self._one_at_a_time:
            rows = [self._row(text, pairs[at] if pairs else None) for at, text in enumerate(texts)]
        return Encodings(
            ids=_flat([ids for ids, _, _ in rows]),
            offsets=np.array([0, *accumulate(len(ids) for ids, _, _ in rows)], dtype=np.int64),
            truncated=np.array([cut for _, _, cut in rows], dtype=bool),
            type_ids=_flat([types for _, types, _ in rows]) if self._takes_types else None,
        )

    def _row(self, text: str, pair: str | None) -> tuple[list[int], list[int], bool]:
        is_pair = pair is not None and bool(pair or self._empty_is_a_text)
        texts = (text, pair or "") if is_pair else (text,)
        found = self._tokenizer(*texts, truncation=True, max_length=self._max_length)
        ids = list(found["input_ids"])
        cut = len(ids) >= self._max_length and len(self._whole(texts)) > len(ids)
        if not ids:
            return [self._stand_in], [0], cut
        return ids, list(found.get("token_type_ids", ())) or [0] * len(ids), cut

    def _whole(self, texts: tuple[str, ...]) -> list[int]:
        ids: list[int] = self._tokenizer(*texts)["input_ids"]
        return ids


def encoder_of(
    tokenizer: Any,
    max_length: int,
    *,
    stand_in: int,
    extra: Callable[[str, Any], Any] | None,
    ahead: bool,
    empty_is_a_text: bool = False,
) -> Encoder | FlatEncoder | PythonEncoder:
    """The encoder of a tokenizer; see `Encoder`. A faster one where one is installed and agrees.

    Raises:
        ModelError: `extra` needs character offsets, and a tokenizer in Python has none.
    """
    if getattr(tokenizer, "is_fast", False):
        usual = Encoder(
            tokenizer, max_length, stand_in=stand_in, extra=extra, ahead=ahead,
            slice_letters=SLICE_LETTERS if ahead else SLICE_LETTERS_CPU,
            empty_is_a_text=empty_is_a_text,
        )  # fmt: skip
        fits = extra is None and not usual.gives_types
        return (fits and flat_encoder(tokenizer, usual, max_length, stand_in)) or usual
    if extra is not None:
        raise ModelError(
            f"its tokenizer, {type(tokenizer).__name__}, is written in Python and gives no position "
            "of a token in its text, which the task needs"
        )
    return PythonEncoder(tokenizer, max_length, stand_in=stand_in, empty_is_a_text=empty_is_a_text)


def _flat(rows: list[list[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=sum(map(len, rows)))


def slices_of(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Where to cut rows of these sizes so that no slice but of one large row is over `most`."""
    cuts, size = [0], 0
    for at, more in enumerate(sizes):
        if size and size + more > most:
            cuts.append(at)
            size = 0
        size += more
    return list(pairwise([*cuts, len(sizes)]))


def _joined(parts: list[Encodings]) -> Encodings:
    starts = accumulate((int(p.offsets[-1]) for p in parts[:-1]), initial=0)
    ends = [p.offsets[1:] + start for p, start in zip(parts, starts, strict=True)]
    types = [p.type_ids for p in parts if p.type_ids is not None]
    extra = [p.extra for p in parts if p.extra is not None]
    return Encodings(
        ids=np.concatenate([p.ids for p in parts]),
        offsets=np.concatenate([[0], *ends]),
        truncated=np.concatenate([p.truncated for p in parts]),
        type_ids=np.concatenate(types) if types else None,
        extra=list(chain.from_iterable(extra)) if extra else None,
    )


def special_token(config: Any, tokenizer: Any, *names: str) -> int:
    """The id of the first of the special tokens that the model or its tokenizer has, else 0."""
    config = text_config_of(config)
    known = getattr(config, "vocab_size", None) or len(tokenizer)
    for name in names:
        for owner in (config, tokenizer):
            value = getattr(owner, f"{name}_token_id", None)
            # some configurations list several, some tokenizers have more tokens than the model
            if isinstance(value, int) and 0 <= value < known:
                return value
    return 0


def lower_case(tokenizer: Any) -> None:
    """Let a tokenizer lower-case its texts first, as sentence-transformers' `do_lower_case` does.

    Raises:
        ModelError: it is not one of the tokenizers library.
    """
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        raise ModelError("do_lower_case needs a tokenizer of the tokenizers library")
    from tokenizers.normalizers import Lowercase, Sequence

    own = rust.normalizer
    # lower-casing twice changes nothing
    rust.normalizer = Sequence([Lowercase(), *([] if own is None else [own])])


def prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt at the start of a row, special tokens at its start included.

    Source: sentence-transformers 6.2, Transformer._get_prompt_length
    """
    if not prompt:
        return 0
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)
