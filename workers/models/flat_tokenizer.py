"""Faster tokenizers for two kinds, an optional extra: WordPiece by nanotoken, BPE by fastokens.

Both give the ids of all rows as one array, without an object per row. They are trusted only while
they give the ids that `tokenizers` gives: they are compared on odd texts when a model is loaded, on
the first rows of the job, and on some rows of each window. At the first difference the process goes
back to `tokenizers` for good. So the answers are the same, and a job's id does not say which one ran.

They are not used where a task needs character offsets or pairs of texts: neither gives them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from headrace.process.logs import get_logger
from headrace.tasks.contract import Encodings

log = get_logger(__name__)

Flat = tuple[np.ndarray, np.ndarray]
"""Token ids of all rows, int32 `[tokens]`, and where each row begins and ends, int64 `[rows + 1]`."""
Encode = Callable[[Sequence[str], int], Flat]
"""Texts, and the most tokens of a row, to ids; special tokens are added and count."""
Reference = Callable[[Sequence[str], Sequence[str] | None], Encodings]
"""Texts, and a second text for each or None, to ids."""

# nanotoken's caches hold a million entries each by default, 130 MiB a thread when full. So many
# tokenized as fast or faster, in both corpora tried (see the log of experiments).
CACHE_ENTRIES = 1 << 15
FIRST_ROWS = 512
"""Rows of a process's first call that are compared. Chosen: a window's worth of short ones."""
LATER_ROWS = 8
"""Rows of each later call. Chosen: 4,096 rows cost 4 % more, as the reference is 20 times slower."""

ODD_TEXTS = [
    "", " ", "\n\t ", "a", "The weather is fine today, is it not?", "don't we'll I'm 's",
    "naïve café Ångström Ελληνικά ΣΊΣΥΦΟΣ русский йод", "東京 한국어 ไทย हिन्दी العربية עברית",
    "e\u0301 o\u0308 \u212b \ufb01 \u01c4 \u0130 \u00df", "a\u00adb\u200bc\u200dd\ufeffe\u2060f",
    "\x00a\x01b\x7fc\x0bd\x0ce\u0085f\u2028g", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "x" * 99, "x" * 101, "supercalifragilisticexpialidocious" * 4, "1234567890 3.14 1e-9 0x1f",
    "http://example.org/a_b?c=d&e=%20#f", "[CLS] a [SEP] b [MASK] [PAD] [UNK]",
    "<s> a </s> <pad> <unk> <mask> <|endoftext|>", "...!!!???---___", "a  b   c    d", "A\r\nB\rC",
]  # fmt: skip
"""Texts of the kinds on which tokenizers differ. Source: what broke others that were tried."""


class FlatEncoder:
    """Encodes by a faster tokenizer, compares it with the reference, and falls back to that."""

    def __init__(
        self,
        name: str,
        encode: Encode,
        reference: Reference,
        max_length: int,
        *,
        stand_in: int = 0,
    ) -> None:
        """`stand_in` is the token of a text that gives none. `name` goes into the manifest."""
        self._name = name
        self._encode: Encode | None = encode
        self._reference = reference
        self._max_length = max_length
        self._stand_in = stand_in
        self._seen = False
        long = "The weather is fine today, is it not? " * (max_length // 8 + 2)
        self._compare_odd_texts([*ODD_TEXTS, *([long] if max_length <= 1 << 14 else [])])

    @property
    def library(self) -> str:
        """Name and version of the library; empty once it has given other ids than the reference."""
        return self._name if self._encode is not None else ""

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of the texts; thread-safe. Pairs are encoded by the reference."""
        encode = self._encode
        if encode is None or pairs is not None or not texts:
            return self._reference(texts, pairs)
        try:
            found = self._flat(encode, texts)
        except Exception as error:  # what a young library raises is not known
            # a text that the reference refuses, too, is the row's error
            right = self._reference(texts, None)
            self._give_up(type(error).__name__)
            return right
        rows = self._rows_to_compare(len(texts))
        right = self._reference([texts[row] for row in rows.tolist()], None)
        if not _same(found.take(rows), right):
            self._give_up("it gave other tokens for a row of this job")
            return self._reference(texts, None)
        return found

    def _compare_odd_texts(self, texts: Sequence[str]) -> None:
        try:
            encode = self._encode
            if encode and not _same(self._flat(encode, texts), self._reference(texts, None)):
                self._give_up("it gave other tokens for a text of odd letters")
        except Exception as error:
            self._give_up(type(error).__name__)

    def _flat(self, encode: Encode, texts: Sequence[str]) -> Encodings:
        ids, offsets = encode(texts, self._max_length)
        lengths = np.diff(offsets)
        truncated = np.zeros(len(texts), dtype=bool)
        full = np.flatnonzero(lengths >= self._max_length)
        if len(full):  # neither says what it cut: one token more shows it
            _, longer = encode([texts[row] for row in full.tolist()], self._max_length + 1)
            truncated[full] = np.diff(longer) > self._max_length
        empty = np.flatnonzero(lengths == 0)
        if len(empty):
            ids = np.insert(ids, offsets[empty], self._stand_in)
            offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])
        return Encodings(ids=ids, offsets=offsets.astype(np.int64), truncated=truncated)

    def _rows_to_compare(self, rows: int) -> np.ndarray:
        most = LATER_ROWS if self._seen else FIRST_ROWS
        self._seen = True
        return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))

    def _give_up(self, why: str) -> None:
        self._encode = None
        log.warning("tokenizer.given_up", tokenizer=self._name, reason=why)


def flat_encoder(
    tokenizer: Any, reference: Reference, max_length: int, stand_in: int
) -> FlatEncoder | None:
    """The faster encoder for a tokenizer; None where none is installed, fits or agrees.

    `tokenizer` is transformers' fast one, `reference` encodes by it.
    """
    rust = tokenizer.backend_tokenizer
    description = json.loads(rust.to_str()) | {"truncation": None, "padding": None}
    make = MAKERS.get(description["model"].get("type", ""))
    if make is None:
        return None
    side = tokenizer.truncation_side
    try:
        name, encode = make(json.dumps(description), side, bool(tokenizer.split_special_tokens))
    except ImportError:  # the extra is not installed
        return None
    except Exception as error:  # of another kind, as its own classes say
        log.info("tokenizer.not_used", reason=type(error).__name__)
        return None
    found = FlatEncoder(name, encode, reference, max_length, stand_in=stand_in)
    return found if found.library else None


def _word_piece(description: str, side: str, split_special: bool) -> tuple[str, Encode]:
    import nanotoken
    from nanotoken.nanotoken_rs import WordPieceTokenizer

    if split_special:
        raise ValueError("special tokens are to be read as text")
    nanotoken.set_cache_entries(CACHE_ENTRIES)
    rust = WordPieceTokenizer.from_json(description)

    def encode(texts: Sequence[str], most: int) -> Flat:
        ids, offsets = rust.encode_batch(
            texts, max_length=most, truncation_side=side, parallel=True
        )
        return ids.view(np.int32), offsets

    return f"nanotoken {version('nanotoken')}", encode


def _byte_pairs(description: str, side: str, split_special: bool) -> tuple[str, Encode]:
    import fastokens

    description = _with_template(description)
    made = {0: fastokens.Tokenizer.from_json_str(description)}  # raises where it cannot read it

    def limited_to(most: int) -> Any:
        """The library keeps the limit in the tokenizer, which threads share: one for each limit."""
        if most not in made:
            found = made.pop(0, None) or fastokens.Tokenizer.from_json_str(description)
            found.enable_truncation(most, strategy="longest_first", direction=side)
            made[most] = found
        return made[most]

    def encode(texts: Sequence[str], most: int) -> Flat:
        ids, offsets = limited_to(most).encode_batch_flat(
            list(texts), add_special_tokens=True, split_special_tokens=split_special
        )
        return np.frombuffer(ids, dtype=np.int32), np.frombuffer(offsets, dtype=np.int64)

    return f"fastokens {version('fastokens')}", encode


def _with_template(description: str) -> str:
    """RoBERTa's way to add special tokens as a template, which fastokens can read; the ids are equal."""
    read = json.loads(description)
    after = read.get("post_processor") or {}
    if after.get("type") != "RobertaProcessing":
        return description
    ends = {name: after[name] for name in ("cls", "sep")}
    own = [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in ends.values()]
    read["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [own[0], {"Sequence": {"id": "A", "type_id": 0}}, own[1]],
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in ends.values()
        },
    }
    return json.dumps(read)


MAKERS: dict[str, Callable[[str, str, bool], tuple[str, Encode]]] = {
    "WordPiece": _word_piece,
    "BPE": _byte_pairs,
}


def _same(ours: Encodings, theirs: Encodings) -> bool:
    return (
        np.array_equal(ours.ids, theirs.ids)
        and np.array_equal(ours.offsets, theirs.offsets)
        and np.array_equal(ours.truncated, theirs.truncated)
    )
