"""Rows with languages of their own: each text is that of `generate` on the row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError, ModelError, UnknownLanguage
from tests.unit.generation.by_row.many_languages import (
    WORDS,
    add_to_config,
    save_mbart,
    save_nllb,
)
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.engine_runs import Events
from tests.unit.generation.peaked import save_peaked
from workers.engines.generating.base import GeneratingEngine
from workers.tasks.generation import Translation

BOTH = {"src_lang_column": "from", "tgt_lang_column": "to"}
NEW = {"max_new_tokens": 8}
ENDS = [2, *range(4, 12)]
"""Several tokens, so that answers have many lengths."""
NLLB = ("eng_Latn", "fra_Latn", "deu_Latn", "zul_Latn")
MBART = ("en_XX", "fr_XX", "de_DE")


def loaded(
    folder: Path, make: Callable[[str], GeneratingEngine] | None = None, engine: str = "transformers",
    **params: Any,
) -> Translation:  # fmt: skip
    task = Translation() if make is None else Translation(make)
    task.load(LoadRequest(str(folder), "cpu", "float32", None, NEW | params, engine=engine))
    return task


def texts_of(task: Translation, texts: Sequence[str], pairs: Sequence[str]) -> list[str]:
    """The task's texts, all rows together."""
    rows = task.encode(texts, pairs)
    found = {it.row: it for it in task.generate(rows, Events(), 1 << 20)}
    assert all(it.error is None for it in found.values())
    return [found[row].text for row in range(len(texts))]


def alone(task: Translation, text: str, source: str, target: str, **values: Any) -> str:
    """What transformers' own steps make of one row."""
    engine: Any = task.engine
    tokenizer = task.tokenizer
    tokenizer.src_lang = source
    given = tokenizer([text], return_tensors="pt")
    out = engine.model.generate(
        **given, forced_bos_token_id=tokenizer.convert_tokens_to_ids(target), **NEW, **values
    )
    return str(tokenizer.decode(out[0][1:], skip_special_tokens=True))


def corpus(languages: Sequence[str], rows: int = 18) -> tuple[list[str], list[str]]:
    """Texts of many lengths, and a pair of languages for each."""
    texts = [" ".join(WORDS[(row * 5 + n) % 24] for n in range(1 + row % 7)) for row in range(rows)]
    count = len(languages)
    pairs = [f"{languages[r % count]}\t{languages[(r // 2 + 1) % count]}" for r in range(rows)]
    return texts, pairs


@pytest.mark.parametrize("values", [{}, {"num_beams": 3}])
@pytest.mark.parametrize(("save", "languages"), [(save_nllb, NLLB), (save_mbart, MBART)])
def test_each_text_is_that_of_generate_alone(
    save: Callable[[Path], Path], languages: Sequence[str], values: dict[str, Any], tmp_path: Path
) -> None:
    folder = add_to_config(save(tmp_path), eos_token_id=ENDS)
    (folder / "generation_config.json").unlink()
    task = loaded(folder, **BOTH, **values)
    texts, pairs = corpus(languages)
    wanted = [
        alone(task, text, *pair.split("\t"), **values)
        for text, pair in zip(texts, pairs, strict=True)
    ]
    assert len(set(wanted)) > len(texts) / 3
    assert texts_of(task, texts, pairs) == wanted
    assert texts_of(task, texts[::-1], pairs[::-1]) == wanted[::-1]


def test_a_column_gives_what_an_option_gives_for_all_rows(tmp_path: Path) -> None:
    save_nllb(tmp_path)
    texts, _ = corpus(NLLB, 6)
    by_option = loaded(tmp_path, src_lang="fra_Latn", tgt_lang="zul_Latn")
    fixed = {it.row: it.text for it in by_option.generate(by_option.encode(texts), Events(), 9999)}
    mixed = loaded(tmp_path, src_lang="fra_Latn", tgt_lang_column="to")
    assert texts_of(mixed, texts, ["zul_Latn"] * 6) == [fixed[row] for row in range(6)]


def test_an_unknown_or_missing_language_is_an_error_of_its_row(tmp_path: Path) -> None:
    task = loaded(save_nllb(tmp_path), **BOTH)
    for pair, words in (
        ("eng_Latn\tw", "does not know the language 'w'"),  # a word, and no language
        ("klingon\tfra_Latn", "does not know the language 'klingon'; it knows"),
        ("\tfra_Latn", r"no source language \(column 'from'\)"),
        ("eng_Latn\t", r"no target language \(column 'to'\)"),
    ):
        with pytest.raises(UnknownLanguage, match=words):
            task.encode(["w1"], [pair])


def test_an_unknown_language_for_all_rows_is_refused(tmp_path: Path) -> None:
    save_nllb(tmp_path)
    with pytest.raises(ConfigError, match="'klingon'"):
        loaded(tmp_path, src_lang="klingon", tgt_lang_column="to")


def test_t5_has_a_prefix_for_each_pair(tmp_path: Path) -> None:
    save_peaked(
        tmp_path, "t5",
        task_specific_params={
            "translation_en_to_de": {"prefix": "w1 w2 ", "max_length": 30},
            "translation_en_to_fr": {"prefix": "w3 ", "max_length": 40},
            "translation_de_to_fr": {"prefix": "w4 ", "num_beams": 2},
        },
    )  # fmt: skip
    task = loaded(tmp_path, src_lang="en", tgt_lang_column="to")
    rows = task.encode(["w5", "w5"], ["fr", "de"])
    assert [it.text for it in rows.extra or ()] == ["w3 w5", "w1 w2 w5"]
    assert task.settings.beams == 1
    with pytest.raises(UnknownLanguage, match=r"'en' to 'xx'; config\.json has en to de"):
        task.encode(["w5"], ["xx"])
    whole = loaded(tmp_path, src_lang="en", tgt_lang="fr")
    fixed = list(whole.generate(whole.encode(["w5"]), Events(), 9999))
    assert texts_of(task, ["w5", "w6"], ["fr", "de"])[0] == fixed[0].text


def test_an_engine_without_first_tokens_is_refused(tmp_path: Path) -> None:
    save_nllb(tmp_path)
    with pytest.raises(ConfigError, match="--engine transformers"):
        loaded(tmp_path, lambda name: EchoEngine(), **BOTH)


def test_ctranslate2_begins_each_answer_in_its_language(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    from workers.engines.ctranslate2.engine import CTranslate2Engine

    save_mbart(tmp_path / "m")
    texts, pairs = corpus(MBART)
    wanted = texts_of(loaded(tmp_path / "m", **BOTH), texts, pairs)
    engine = CTranslate2Engine(tmp_path / "converted")
    task = loaded(tmp_path / "m", lambda name: engine, "ctranslate2", **BOTH)
    assert texts_of(task, texts, pairs) == wanted
    add_to_config(tmp_path / "m", tokenizer_class="MBartTokenizer")
    with pytest.raises(ModelError, match="mBART-25"):
        loaded(tmp_path / "m", lambda name: engine, "ctranslate2", **BOTH)
