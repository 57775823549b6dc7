"""Grammars of answers, as llguidance takes them: is the grammar one, can the tokenizer write it?

llguidance is of the extra `structured`; it is imported where a job asks for a form.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from headrace.tasks.generation.settings import GenerationSettings
from headrace.tasks.generation.structure import MISSING
from schemas.errors import ConfigError, MissingExtra, ModelError


def check_grammar(settings: GenerationSettings, tokenizer: Any, where: str) -> None:
    """Check the grammar, and that the tokenizer in tokenizer.json (None: not there) can begin it.

    Raises:
        ConfigError: the schema is none, or has a keyword that cannot be followed.
        ModelError: no token of the model begins an answer.
        MissingExtra: llguidance is not installed.
    """
    fault = fault_in(settings.grammar)
    if fault:
        raise ConfigError(f"--schema or --choices: {fault}")
    if tokenizer is None:
        return
    text = json.dumps(tokenizer)
    try:
        trie = token_trie(text, settings.ends, where)
    except ModelError:
        if not settings.choices:
            raise
        _check_written(text, settings.choices, where)
        return
    first_state(trie, settings, where)


def _check_written(tokenizer: str, choices: Sequence[str], where: str) -> None:
    """Check that a tokenizer whose tokens are no bytes can write each choice letter by letter.

    Raises:
        ModelError: it cannot.
    """
    from tokenizers import Tokenizer

    rust = Tokenizer.from_str(tokenizer)
    for choice in choices:
        ids = rust.encode(choice, add_special_tokens=False).ids
        written = rust.decode(ids, skip_special_tokens=True)
        if written != choice:
            raise cannot_write(choice, written, where)


def cannot_write(choice: str, written: str, where: str) -> ModelError:
    """The error for a choice that a tokenizer writes otherwise."""
    return ModelError(
        f"model {where} cannot write the choice {choice!r}: its tokenizer makes {written!r} of it, "
        "so leave the choice out, or write it like that"
    )


@lru_cache(maxsize=16)
def fault_in(grammar: str) -> str:
    """Why a grammar cannot be followed, whatever the model; empty: it can be.

    Raises:
        MissingExtra: llguidance is not installed.
    """
    is_error, words = _llguidance().LLMatcher.validate_grammar_with_warnings(grammar)
    return " ".join(words)[:500] if is_error else ""


def token_trie(tokenizer: str, ends: Collection[int], where: str, size: int | None = None) -> Any:
    """The tokens as llguidance keeps them, an `LLTokenizer`; `tokenizer` is a tokenizer.json.

    `size` is the number of tokens that the model has, if they are more.

    Raises:
        ModelError: the tokens of such a tokenizer have no bytes of their own.
        MissingExtra: llguidance is not installed.
    """
    try:
        return _trie(tokenizer, tuple(sorted(ends)), size)
    except ValueError as error:
        raise ModelError(
            f"model {where}: --schema needs a tokenizer whose tokens are bytes "
            "(byte-level BPE, or SentencePiece with byte_fallback), as those of Llama, Qwen, "
            f"Mistral, GPT-2 and BART are: {str(error)[:200]}"
        ) from error


@lru_cache(maxsize=1)
def _trie(tokenizer: str, ends: tuple[int, ...], size: int | None) -> Any:
    """A second for 150,000 tokens, and a submission asks twice."""
    return _llguidance().LLTokenizer(tokenizer, n_vocab=size, eos_token=list(ends))


def first_state(trie: Any, settings: GenerationSettings, where: str) -> Any:
    """The grammar's state before the first token, an `LLMatcher`.

    Raises:
        ModelError: no token of the model begins an answer.
    """
    state = _llguidance().LLMatcher(trie, settings.grammar, log_level=0)
    if state.is_error():
        raise ModelError(f"model {where}: --schema or --choices: {state.get_error()[:500]}")
    if not next_tokens(state).any():
        raise ModelError(
            f"model {where}: no token of its vocabulary begins an answer of the form that --schema "
            "or --choices asks for (a JSON object begins with '{')"
        )
    return state


def next_tokens(state: Any) -> np.ndarray:
    """Which tokens may come next, uint8 `[tokens / 8]`, the first token in the lowest bit; none after
    an error.

    llguidance offers the unknown token for a letter that no token writes, and refuses it afterwards.
    """
    bits = np.frombuffer(state.compute_bitmask(), dtype=np.uint8)
    if state.is_error():
        return np.zeros_like(bits)
    (places,) = np.nonzero(bits)
    if len(places) == 1 and bits[places[0]].bit_count() == 1:
        token = int(places[0]) * 8 + int(bits[places[0]]).bit_length() - 1
        if not state.is_accepting() and state.validate_tokens([token]) == 0:
            return np.zeros_like(bits)
    return bits


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtra(MISSING) from error
    return llguidance
