"""Languages that a model's tokenizer knows, as tokens: M2M100's, NLLB's, mBART's, PLBart's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from headrace.tasks.generation.languages import listed
from schemas.errors import ConfigError, UnknownLanguage


def knows_languages(tokenizer: Any) -> bool:
    """Whether the tokenizer takes languages."""
    return hasattr(tokenizer, "src_lang")


def languages_of(tokenizer: Any) -> Collection[str]:
    """The languages, as the tokenizer calls them.

    Another word of the vocabulary is no language, though the tokenizer has an id for it.
    """
    unknown = tokenizer.unk_token_id
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(codes, dict) and codes:  # mBART lists all, with or without a token
        return frozenset(name for name, token in codes.items() if token not in (None, unknown))
    others = {it for it in tokenizer.special_tokens_map.values() if isinstance(it, str)}
    return frozenset(it for it in tokenizer.all_special_tokens if it not in others)


def language_token(tokenizer: Any, source: str, target: str) -> int:
    """Set the language of the texts; the token that begins an answer in the other one.

    Raises:
        ConfigError: the tokenizer does not know one of them, or knows no languages.
    """
    if not knows_languages(tokenizer):
        raise ConfigError(
            "--src-lang and --tgt-lang: this model's tokenizer knows no languages, and its "
            f"config.json has no translation_{source}_to_{target}; give --prefix"
        )
    try:
        check_known(tokenizer, source)
        token = first_token(tokenizer, target)
    except UnknownLanguage as error:
        raise ConfigError(str(error)) from error
    tokenizer.src_lang = source
    return token


def first_token(tokenizer: Any, target: str) -> int:
    """The token that begins an answer in this language.

    Raises:
        UnknownLanguage: the tokenizer does not know it.
    """
    name = check_known(tokenizer, target)
    if hasattr(tokenizer, "get_lang_id"):
        return int(tokenizer.get_lang_id(target))
    return int(tokenizer.convert_tokens_to_ids(name))


def check_known(tokenizer: Any, language: str) -> str:
    """The language as its token is written.

    Raises:
        UnknownLanguage: the tokenizer does not know it.
    """
    spell = getattr(tokenizer, "_convert_lang_code_special_format", str)  # PLBart: java → __java__
    known, name = languages_of(tokenizer), spell(language)
    if name not in known:
        raise UnknownLanguage(
            f"the model's tokenizer does not know the language {language!r}; it knows {listed(known)}"
        )
    return str(name)
