"""A tokenizer's vocabulary, stored once in an output, to show words for token ids."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from headrace.profiles.profile import LEVEL, TokenCounts
from headrace.storage.store import Store
from schemas.names import output_layout


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id; empty where an id has none."""

    tokens: tuple[str, ...]
    unknown: int | None = None
    special: tuple[int, ...] = ()
    digest: str = ""

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a tokenizer of transformers."""
        by_token: dict[str, int] = tokenizer.get_vocab()
        tokens = [""] * (max(by_token.values(), default=-1) + 1)
        for token, at in by_token.items():
            tokens[at] = token
        unknown = tokenizer.unk_token_id
        special = tuple(sorted(set(tokenizer.all_special_ids) - {unknown}))
        return cls.of_tokens(tuple(tokens), unknown, special)

    @classmethod
    def of_tokens(
        cls, tokens: tuple[str, ...], unknown: int | None, special: tuple[int, ...]
    ) -> Vocabulary:
        """A vocabulary with its digest."""
        digest = hashlib.sha256("\0".join(tokens).encode("utf-8", "surrogatepass")).hexdigest()
        return cls(tokens, unknown, special, digest[:32])

    def counts(self) -> TokenCounts:
        """No counts yet, of this vocabulary."""
        return TokenCounts(vocabulary=self.digest, unknown=self.unknown, special=self.special)

    def word(self, token: int) -> str:
        """A token for people, without the marks of a word's start."""
        raw = self.tokens[token] if 0 <= token < len(self.tokens) else ""
        return raw.replace("Ġ", " ").replace("▁", " ").strip() or raw or f"token {token}"


def save_vocabulary(store: Store, vocabulary: Vocabulary) -> None:
    """Keep the vocabulary in an output, if it has none. Raises StorageError."""
    if store.head(output_layout.VOCABULARY) is not None:
        return
    record = [list(vocabulary.tokens), vocabulary.unknown, list(vocabulary.special)]
    store.create(output_layout.VOCABULARY, gzip.compress(json.dumps(record).encode(), LEVEL))


def read_vocabulary(store: Store) -> Vocabulary | None:
    """The vocabulary in an output; None if there is none that can be read. Raises StorageError."""
    data = store.read(output_layout.VOCABULARY)
    if data is None:
        return None
    try:
        tokens, unknown, special = json.loads(gzip.decompress(data))
        return Vocabulary.of_tokens(tuple(map(str, tokens)), unknown, tuple(special))
    except (OSError, EOFError, ValueError, TypeError):
        return None
