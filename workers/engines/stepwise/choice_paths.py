"""Keeps answers to given choices where tokens are no bytes: T5, Marian, WordPiece.

llguidance needs the bytes of each token. Here an answer is the tokens that the tokenizer itself writes
a choice with, and then an end. Other tokens of the same text are not tried.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.tasks.generation.grammar import cannot_write


@dataclass(frozen=True, slots=True)
class ChoicePaths:
    """The tokens of all choices, as a tree."""

    after: Mapping[tuple[int, ...], Collection[int]]
    """Tokens so far → those that may come next."""

    def mask(self, given: int) -> ChoiceMask:
        """The processor for rows with so many tokens before their answers."""
        return ChoiceMask(self, given)


class ChoiceMask:
    """A logits processor for rows that started together; see the module."""

    def __init__(self, paths: ChoicePaths, given: int) -> None:
        self._paths, self._given = paths, given

    def __call__(self, ids: Any, scores: Any) -> Any:
        """The scores, float32 `[rows, vocabulary]`, minus infinity where a token is not allowed."""
        if ids.shape[1] < self._given:
            return scores
        import torch

        kept = torch.full_like(scores, float("-inf"))
        for row, tokens in enumerate(ids[:, self._given :].tolist()):
            allowed = list(self._paths.after.get(tuple(tokens), ()))
            kept[row, allowed] = scores[row, allowed]
        return kept


def paths_of(
    tokenizer: Any, choices: Sequence[str], ends: Collection[int], size: int, where: str
) -> ChoicePaths:
    """The tokens of the choices, for a model with `size` tokens.

    Raises:
        ModelError: the tokenizer cannot write one of them letter by letter.
    """
    after: dict[tuple[int, ...], set[int]] = {}
    for choice in choices:
        tokens = tokens_of(tokenizer, choice)
        written = str(tokenizer.decode(tokens, skip_special_tokens=True))
        if written != choice or max(tokens, default=size) >= size or set(ends) & set(tokens):
            raise cannot_write(choice, written, where)
        for at, token in enumerate(tokens):
            after.setdefault(tuple(tokens[:at]), set()).add(token)
        after.setdefault(tuple(tokens), set()).update(ends)
    return ChoicePaths({tokens: sorted(them) for tokens, them in after.items()})


def tokens_of(tokenizer: Any, choice: str) -> list[int]:
    """The choice as the tokenizer writes an answer, without special tokens."""
    return list(tokenizer(text_target=choice, add_special_tokens=False)["input_ids"])
