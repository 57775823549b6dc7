"""Keeps answers to a grammar: forbids each token that breaks it, as a logits processor.

The state after a row's tokens is made from the state before the last of them, so that a row may
leave, and rows of equal tokens share a state. A row whose tokens break the grammar has no token
left: llguidance would offer it the end.

Source: llguidance 1.9.1, `LLMatcher`: a state whose tokens are refused allows the end tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.tasks.generation.grammar import first_state, next_tokens, token_trie
from schemas.errors import ModelError
from workers.engines.generating.base import GenerationRequest
from workers.engines.stepwise.choice_paths import ChoicePaths, paths_of


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar over a model's tokens."""

    first: Any
    """The state before the first token, `LLMatcher`."""
    bytes: int
    """Length of a mask, a bit for each token."""

    def mask(self, given: int) -> GrammarMask:
        """The processor for rows with so many tokens before their answers."""
        return GrammarMask(self, given)


def grammar_for(request: GenerationRequest, model: Any) -> Grammar | ChoicePaths:
    """The job's grammar over the tokens of its model.

    Raises:
        ModelError: the tokenizer has no Rust half or no tokens of bytes, or none begins an answer;
            it cannot write a choice.
        MissingExtra: llguidance is not installed.
    """
    where, settings = request.load.model_path, request.settings
    rust = getattr(request.tokenizer, "backend_tokenizer", None)
    has = int(model.get_output_embeddings().weight.shape[0])
    try:
        if rust is None:
            raise ModelError(f"model {where}: --schema needs a tokenizer.json")
        trie = token_trie(rust.to_str(), settings.ends, where, max(len(request.tokenizer), has))
    except ModelError:
        if not settings.choices:
            raise
        return paths_of(request.tokenizer, settings.choices, settings.ends, has, where)
    first = first_state(trie, settings, where)
    return Grammar(first, len(next_tokens(first)))


class GrammarMask:
    """A logits processor for rows that started together; see the module."""

    def __init__(self, grammar: Grammar, given: int) -> None:
        """`given` tokens are before each answer."""
        self._grammar, self._given = grammar, given
        self._states: dict[bytes, Any] = {}
        """The states of the last call, by the row's new tokens; None: they break the grammar."""

    def __call__(self, ids: Any, scores: Any) -> Any:
        """The scores, float32 `[rows, vocabulary]`, minus infinity where a token is not allowed."""
        if ids.shape[1] < self._given:
            return scores
        import torch

        allowed = torch.from_numpy(self._allowed(ids[:, self._given :].cpu().numpy()))
        width, known = scores.shape[1], allowed.shape[1]
        if known < width:
            allowed = torch.nn.functional.pad(allowed, (0, width - known))
        return scores.masked_fill(~allowed[:, :width].to(scores.device), float("-inf"))

    def _allowed(self, rows: np.ndarray) -> np.ndarray:
        """Whether each token may come next, bool `[rows, bytes × 8]`, from new tokens int64."""
        bits = np.zeros((len(rows), self._grammar.bytes), dtype=np.uint8)
        states: dict[bytes, Any] = {}
        for at, tokens in enumerate(rows):
            key = tokens.tobytes()
            if key not in states:
                states[key] = self._state(tokens)
            state = states[key]
            if state is not None:
                bits[at] = next_tokens(state)
        self._states = states
        return np.unpackbits(bits, axis=1, bitorder="little").view(np.bool_)

    def _state(self, tokens: np.ndarray) -> Any:
        """The state after these tokens; None if they break the grammar."""
        before = self._states.get(tokens[:-1].tobytes()) if len(tokens) else None
        if before is None:
            state = self._grammar.first.deep_copy()
            return state if state.consume_tokens(tokens.tolist()) else None
        state = before.deep_copy()
        return state if state.consume_token(int(tokens[-1])) else None
