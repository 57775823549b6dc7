"""A WordPiece tokenizer with the words of the training texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece_tokenizer(texts: Sequence[str], size: int, max_length: int) -> Any:
    """A tokenizer as BERT's uncased ones are, with at most `size` pieces (more for many letters)."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    unlearned = BertWordPieceTokenizer(lowercase=True)
    words: Counter[str] = Counter()
    for text in texts:
        normal = unlearned.normalizer.normalize_str(text)
        words.update(word for word, _ in unlearned.pre_tokenizer.pre_tokenize_str(normal))
    learned = BertWordPieceTokenizer(vocab=vocabulary(words, size), lowercase=True)
    return BertTokenizerFast(
        tokenizer_object=learned._tokenizer, do_lower_case=True, model_max_length=max_length
    )


def vocabulary(words: Mapping[str, int], size: int) -> dict[str, int]:
    """Every character, at the start of a word and inside, then the commonest whole words. Pure.

    The trainer of tokenizers 0.23 is not used: it gives another vocabulary at each run.
    """
    letters = sorted({letter for word in words for letter in word})
    pieces = [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    common = sorted((-count, word) for word, count in words.items() if count > 1 and word[1:])
    pieces += [word for _, word in common[: max(0, size - len(pieces))]]
    return {piece: number for number, piece in enumerate(pieces)}
