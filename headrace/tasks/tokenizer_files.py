"""Which files of a model's folder hold its tokenizer; a folder without any is refused.

transformers silently makes an empty tokenizer from such a folder: every token of every row is then
unknown, and the model's predictions are as good as chance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from schemas.errors import ModelError

VOCABULARY_NAMES = frozenset(
    {
        "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "dict.txt",
        "entity_vocab.json", "encoder.json", "tekken.json", "vocab.bpe", "prophetnet.tokenizer",
        "byte_maps.json",
    }
)  # fmt: skip
VOCABULARY_SUFFIXES = frozenset({".model", ".spm", ".tiktoken"})
"""SentencePiece's files, under any name, and tiktoken's."""

WITHOUT_VOCABULARY = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})
"""Tokenizers that read letters or bytes, by rule."""
LETTER_MODELS = frozenset({"canine", "perceiver"})
"""Types of models whose tokenizer is one of these, even where the folder does not say so."""

FEWEST = 0.5
"""Tokens of a tokenizer, as a share of the model's: under it, it is another model's. Chosen: tables
are rounded up, by 1.8 % at most in models that are in use (ByT5's, of bytes, by a third)."""


def has_vocabulary(names: Iterable[str]) -> bool:
    """Whether one of these files, beside config.json, holds a tokenizer's vocabulary."""
    paths = [PurePosixPath(name) for name in names if "/" not in name]
    return any(p.name in VOCABULARY_NAMES or p.suffix in VOCABULARY_SUFFIXES for p in paths)


def check_tokenizer_files(
    names: Collection[str], config: Mapping[str, Any], settings: Mapping[str, Any], where: str
) -> None:
    """Check that one of the files holds a vocabulary, or that the tokenizer needs none.

    `names` are relative to the model's folder; `settings` is its tokenizer_config.json.

    Raises:
        ModelError: a vocabulary is needed and no file holds one.
    """
    if has_vocabulary(names):
        return
    kind = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or "")
    if kind in WITHOUT_VOCABULARY or (not kind and config.get("model_type") in LETTER_MODELS):
        return
    raise ModelError(
        f"model {where} has no tokenizer files (tokenizer.json, vocab.txt, *.model): every token "
        "would be unknown; copy them beside config.json from where the model was trained"
    )
