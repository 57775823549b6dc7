"""Texts with their languages to prompts: each with its own prefix, special tokens and first token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.tasks.contract import Encodings
from headrace.tasks.generation.languages import Pair, listed, pair_of
from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import ConfigError, UnknownLanguage
from workers.tasks.by_row.own_prompt import OwnPrompt
from workers.tasks.by_row.tokens import check_known, first_token, knows_languages
from workers.tasks.prompts import PromptEncoder, PromptRow, encodings_of


class Way(NamedTuple):
    """How a model gets a row's languages."""

    source: str | None
    """What the tokenizer is set to; None: nothing."""
    prefix: str
    first: int | None


class LanguageEncoder:
    """Texts to prompts, each in the languages that its second text names; thread-safe."""

    def __init__(
        self,
        tokenizer: Any,
        settings: GenerationSettings,
        params: Mapping[str, Any],
        encoder_with: Callable[[str], PromptEncoder],
    ) -> None:
        """`encoder_with` makes the encoder of texts with such a prefix.

        Raises:
            ConfigError: the model knows no languages, or not the one that is given for all rows.
        """
        self._tokenizer, self._params = tokenizer, params
        self._prefixes, self._encoder_with = settings.prefixes, encoder_with
        self.begins = not self._prefixes
        """Whether answers begin with a token of their language."""
        self._one_at_a_time = threading.Lock()
        if not self.begins:
            return
        if not knows_languages(tokenizer):
            raise ConfigError(
                "--src-lang-column and --tgt-lang-column: this model's tokenizer knows no languages"
            )
        for side in ("src_lang", "tgt_lang"):
            if params.get(side) is not None:
                _check_for_all(tokenizer, params[side])

    def __call__(self, texts: Sequence[str], pairs: Sequence[str]) -> Encodings:
        """The prompts, `extra` with each as an `OwnPrompt`.

        Raises:
            UnknownLanguage: a row has no language, or one that the model does not know.
            InvalidRow: a text is too long.
        """
        ways = [self._way(pair_of(self._params, second)) for second in pairs]
        alike: dict[tuple[str | None, str], list[int]] = {}
        for row, way in enumerate(ways):
            alike.setdefault(way[:2], []).append(row)
        found: dict[int, PromptRow] = {}
        with self._one_at_a_time:  # the tokenizer has one language at a time
            for (source, prefix), rows in alike.items():
                if source is not None:
                    self._tokenizer.src_lang = source
                made = self._encoder_with(prefix).rows([texts[row] for row in rows])
                found |= zip(rows, made, strict=True)
        prompts = [found[row] for row in range(len(texts))]
        own = [OwnPrompt(it.text, way.first) for it, way in zip(prompts, ways, strict=True)]
        return encodings_of(prompts, own)

    def _way(self, pair: Pair) -> Way:
        if self.begins:
            source, target = pair.source or "", pair.target or ""
            check_known(self._tokenizer, source)
            return Way(source, "", first_token(self._tokenizer, target))
        prefix = self._prefixes.get(pair)
        if prefix is None:
            raise UnknownLanguage(_unknown(pair, self._prefixes))
        return Way(None, prefix, None)


def _check_for_all(tokenizer: Any, language: str) -> None:
    try:
        check_known(tokenizer, language)
    except UnknownLanguage as error:
        raise ConfigError(str(error)) from error


def _unknown(pair: Pair, known: Mapping[Pair, str]) -> str:
    if pair.source is None:
        codes = [str(it.target) for it in known]
        return f"the model does not write the language {pair.target!r}; it writes {listed(codes)}"
    pairs = [f"{it.source} to {it.target}" for it in known]
    return (
        f"the model does not translate {pair.source!r} to {pair.target!r}; config.json has "
        f"{listed(pairs)}"
    )
