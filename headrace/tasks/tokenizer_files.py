"""Which files of a model's folder hold its tokenizer, so that a folder without any is refused.

transformers makes an empty tokenizer of such a folder, without a word: every token of every row is
then unknown, and the model's answers are as good as chance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from schemas.errors import ModelError

VOCABULARY_NAMES = frozenset(
    {
        "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "dict.txt",
        "entity_vocab.json", "encoder.json", "tekken.json", "vocab.bpe",
    }
)  # fmt: skip
VOCABULARY_SUFFIXES = frozenset({".model", ".spm", ".tiktoken"})
"""SentencePiece's files, under whatever name, and tiktoken's."""

WITHOUT_VOCABULARY = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})
"""Tokenizers that read letters or bytes, by rule."""
LETTER_MODELS = frozenset({"canine", "perceiver"})
"""Types of models whose tokenizer is one of these, even where the folder does not say so."""


def check_tokenizer_files(
    names: Collection[str], config: Mapping[str, Any], settings: Mapping[str, Any], where: str
) -> None:
    """Nothing, when one of the files holds a vocabulary, or the tokenizer needs none.

    `names` are relative to the model's folder, `settings` what its tokenizer_config.json says.

    Raises:
        ModelError: there is none.
    """
    paths = [PurePosixPath(name) for name in names]
    if any(p.name in VOCABULARY_NAMES or p.suffix in VOCABULARY_SUFFIXES for p in paths):
        return
    kind = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or "")
    if kind in WITHOUT_VOCABULARY or (not kind and config.get("model_type") in LETTER_MODELS):
        return
    raise ModelError(
        f"model {where} has no tokenizer files (tokenizer.json, vocab.txt, *.model): every token "
        "would be unknown; copy them beside config.json from where the model was trained"
    )
