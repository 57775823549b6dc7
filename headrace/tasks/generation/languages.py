"""Languages of a translation: one pair for a job, or each row's own from columns. Pure, for both sides.

A model gets them in one of three ways, by its family: a token of its tokenizer (M2M100, NLLB,
mBART), a code before the text (Marian with several targets), or a prefix in words (T5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigError, UnknownLanguage

SOURCE, TARGET = "src_lang", "tgt_lang"
COLUMNS = {SOURCE: "src_lang_column", TARGET: "tgt_lang_column"}
"""Option of a language → the option of the column that has each row's."""
WORDS = {SOURCE: "source language", TARGET: "target language"}
BETWEEN = "\t"
"""Between the two languages of a row, if both have a column."""

TRANSLATION = "translation"
MULTILINGUAL = frozenset({"mbart", "m2m_100", "nllb-moe", "plbart"})
"""Types of models whose tokenizer needs both languages."""
WITHOUT_LANGUAGES = frozenset({"t5", "mt5", "umt5", "longt5", "marian", "bart", "pegasus", "led"})
"""Types of models whose tokenizer knows no languages."""
SHOWN = 8

ReadJson = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """The languages of a row, as its model calls them; empty: the row has none."""

    source: str | None
    """None: the model does not get it."""
    target: str | None


def is_by_row(params: Mapping[str, Any]) -> bool:
    """Whether rows have languages of their own."""
    return any(params.get(name) is not None for name in COLUMNS.values())


def is_given(params: Mapping[str, Any], side: str) -> bool:
    """Whether an option says the language of that side, or its column."""
    return any(params.get(name) is not None for name in (side, COLUMNS[side]))


def check_given_once(params: Mapping[str, Any]) -> None:
    """Check that no language is given in two ways.

    Raises:
        ConfigError: one is.
    """
    for side, column in COLUMNS.items():
        if params.get(side) is not None and params.get(column) is not None:
            raise ConfigError(
                f"{_option(side)} and {_option(column)} contradict one another: one is for all "
                "rows, the other for each row"
            )
    if is_by_row(params) and params.get("prefix") is not None:
        raise ConfigError(
            "--prefix and a column of languages contradict one another: leave one of them out"
        )


def pair_of(params: Mapping[str, Any], second: str) -> Pair:
    """The languages of a row with this second text: that of the one column, or both with a tab.

    Raises:
        UnknownLanguage: the row has none.
    """
    names = [side for side, column in COLUMNS.items() if params.get(column) is not None]
    values = second.split(BETWEEN, len(names) - 1)
    found = {side: params.get(side) for side in COLUMNS} | dict(zip(names, values, strict=True))
    for side in names:
        if not found[side]:
            raise UnknownLanguage(
                f"the row has no {WORDS[side]} (column {params[COLUMNS[side]]!r})"
            )
    return Pair(found[SOURCE], found[TARGET])


def prefixes_of(
    config: Mapping[str, Any], read: ReadJson, params: Mapping[str, Any], where: str
) -> Mapping[Pair, str]:
    """The text before each text, by languages; empty where the tokenizer takes them.

    Raises:
        ConfigError: the model takes languages in neither way, or not a given one.
    """
    if not is_given(params, TARGET):
        return {}
    if config.get("model_type") == "marian":
        return _codes(read, params, where)
    found = {
        pair: str(stated.get("prefix") or "") for pair, (_, stated) in pairs_stated(config, params)
    }
    if not found and is_by_row(params) and config.get("model_type") in WITHOUT_LANGUAGES:
        raise ConfigError(
            f"model {where} knows no languages: its config.json has no translation_…_to_… for "
            f"{_described(params)}"
        )
    return found


def pairs_stated(
    config: Mapping[str, Any], params: Mapping[str, Any]
) -> Iterator[tuple[Pair, tuple[str, Mapping[str, Any]]]]:
    """Pairs for which config.json has settings, as T5's does: with their name there, and the settings."""
    known = config.get("task_specific_params")
    for key, stated in known.items() if isinstance(known, Mapping) else ():
        source, _, target = str(key).removeprefix("translation_").partition("_to_")
        if not str(key).startswith("translation_") or not target or not isinstance(stated, Mapping):
            continue
        pair = Pair(source, target)
        if _fits(params, SOURCE, source) and _fits(params, TARGET, target):
            yield pair, (str(key), stated)


def check_languages(
    task: str, config: Mapping[str, Any], params: Mapping[str, Any], where: str
) -> None:
    """Check that a model gets the languages that it needs.

    Raises:
        ConfigError: one is missing, or has no meaning.
    """
    check_given_once(params)
    source, target = (is_given(params, side) for side in COLUMNS)
    if config.get("model_type") == "marian":
        if source:
            raise ConfigError(
                f"model {where}: a Marian model takes no language of its texts: leave "
                "--src-lang out"
            )
        if target and params.get("prefix") is not None:
            raise ConfigError(
                "--prefix and --tgt-lang contradict one another: both are before the text"
            )
        return
    if source != target:
        raise ConfigError(
            "--src-lang and --tgt-lang, or their columns, are given together or not at all"
        )
    if task == TRANSLATION and config.get("model_type") in MULTILINGUAL and not target:
        raise ConfigError(
            f"model {where} translates between many languages: give --src-lang and --tgt-lang, or "
            "--src-lang-column and --tgt-lang-column"
        )


def listed(languages: Collection[str]) -> str:
    """Some of the languages, for a message."""
    some = ", ".join(sorted(languages)[:SHOWN])
    return f"{some} and {len(languages) - SHOWN} more" if len(languages) > SHOWN else some


def _codes(read: ReadJson, params: Mapping[str, Any], where: str) -> Mapping[Pair, str]:
    """Marian's: `>>fra<<` is a token of a vocabulary with several targets."""
    words = read("vocab.json") or {}
    codes = {str(it)[2:-2] for it in words if str(it).startswith(">>") and str(it).endswith("<<")}
    if not codes:
        raise ConfigError(f"model {where} writes one language: leave --tgt-lang out")
    wanted = params.get(TARGET)
    if wanted is not None and wanted not in codes:
        raise ConfigError(
            f"model {where} does not write the language {wanted!r}; it writes {listed(codes)}"
        )
    return {Pair(None, code): f">>{code}<< " for code in sorted(codes)}


def _fits(params: Mapping[str, Any], side: str, language: str) -> bool:
    return params.get(COLUMNS[side]) is not None or params.get(side) == language


def _described(params: Mapping[str, Any]) -> str:
    each = (
        f"{_option(name)} {params[name]}"
        for name in (*COLUMNS, *COLUMNS.values())
        if params.get(name) is not None
    )
    return ", ".join(each)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
