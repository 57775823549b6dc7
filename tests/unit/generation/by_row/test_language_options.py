"""Options of languages: what is given together, which column is read, and what the model's files know."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.formats.opener import InputOpener
from headrace.settings import Settings, load_settings
from headrace.storage.open import open_store
from headrace.tasks.catalog import task_spec
from headrace.tasks.generation.languages import Pair, pair_of
from headrace.tasks.generation.settings import GenerationSettings, settings_of
from headrace.tracing.chunk_trace import observe_nothing
from producers.submission.generation import shown_settings
from producers.submission.spec import columns_wanted, pair_source
from schemas.errors import ColumnError, ConfigError
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import ModelRef, Spec
from schemas.records.text_source import made_text, template_in
from tests.unit.generation.by_row.many_languages import save_nllb
from tests.unit.small_job import prepare_small, write_input
from workers.pipeline.read import read_windows
from workers.pipeline.rows import RowError

NLLB = {"model_type": "m2m_100", "is_encoder_decoder": True, "max_length": 200}
MARIAN = {"model_type": "marian", "is_encoder_decoder": True, "max_length": 200}
VOCABULARY = {"</s>": 0, ">>fra<<": 1, ">>ita<<": 2, "a": 3}
BOTH = {"src_lang_column": "from", "tgt_lang_column": "to"}
PREFIXES = {
    "translation_en_to_de": {"prefix": "to German: ", "max_length": 300},
    "translation_en_to_fr": {"prefix": "to French: ", "max_length": 400},
}
T5 = {"model_type": "t5", "is_encoder_decoder": True, "task_specific_params": PREFIXES}


def settled(config: dict[str, Any], **params: Any) -> GenerationSettings:
    files = {"config.json": config, "vocab.json": VOCABULARY}
    return settings_of("translation", files.get, params, "M")


@pytest.mark.parametrize(
    ("config", "params", "words"),
    [
        (NLLB, {"src_lang_column": "from"}, "together"),
        (NLLB, {}, "--src-lang-column and --tgt-lang-column"),
        (NLLB, {"src_lang": "a", **BOTH}, "--src-lang and --src-lang-column contradict"),
        (NLLB, {"prefix": "x", **BOTH}, "--prefix"),
        (MARIAN, {"src_lang": "eng", "tgt_lang": "fra"}, "leave --src-lang out"),
        (MARIAN, {"tgt_lang": "deu"}, "'deu'; it writes fra, ita"),
        (MARIAN, {"tgt_lang": "fra", "prefix": "x"}, "--prefix"),
        (T5, {"src_lang": "fr", "tgt_lang_column": "to"}, "--src-lang fr, --tgt-lang-column to"),
        (T5, {"src_lang": "en", "tgt_lang_column": "to"}, "differ in max_length.*--max-new-tokens"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    config: dict[str, Any], params: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        settled(config, **params)


def test_a_model_of_several_targets_has_a_code_before_each_text() -> None:
    assert settled(MARIAN, tgt_lang="fra").prefix == ">>fra<< "
    by_row = settled(MARIAN, tgt_lang_column="to")
    assert by_row.prefix == ""
    assert by_row.prefixes == {Pair(None, "fra"): ">>fra<< ", Pair(None, "ita"): ">>ita<< "}


def test_prefixes_of_pairs_are_those_of_the_side_that_is_given() -> None:
    found = settled(T5, src_lang="en", tgt_lang_column="to", max_new_tokens=9)
    assert found.prefixes == {Pair("en", "de"): "to German: ", Pair("en", "fr"): "to French: "}
    assert settled(NLLB, **BOTH).prefixes == {}


def test_the_columns_are_the_second_text_of_a_row() -> None:
    task = task_spec("translation")
    params = task.resolve(BOTH)
    settings = Settings(task="translation", **BOTH)
    assert pair_source(settings, params) == made_text(r"{from}\t{to}")
    wanted = columns_wanted(settings, params)
    assert wanted.texts == ("text", "from", "to")
    assert wanted.pair_options == {"from": "src-lang-column", "to": "tgt-lang-column"}
    mixed = {"src_lang": "en", "tgt_lang_column": "to"}
    assert pair_source(Settings(task="translation", **mixed), mixed) == "to"
    for column, words in (("from", "name one column"), ("a{b", "braces")):
        with pytest.raises(ConfigError, match=words):
            pair_source(settings, BOTH | {"tgt_lang_column": column})


def test_a_missing_column_names_its_option(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.parquet", ["w1"], to=["fra_Latn"])
    settings = load_settings(
        task="translation", model=str(save_nllb(tmp_path / "m")), max_new_tokens=5, **BOTH
    )
    with pytest.raises(ColumnError, match=r"no column 'from' \(--src-lang-column\)"):
        prepare_small([path], tmp_path / "out", settings)


def test_languages_are_read_beside_the_text(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table = {"text": ["a"] * 4, "from": ["en", "de", None, None], "to": ["fr", None, "fr", None]}
    pq.write_table(pa.table(table), path)
    spec = Spec(
        inputs_digest="d", text_column="text", text_pair=template_in(made_text(r"{from}\t{to}")),
        task="translation", params=BOTH, model=ModelRef(uri="m", revision="r"), dtype="float32",
    )  # fmt: skip
    assert "text_pair" in spec.model_dump()
    piece = Piece(InputFile(str(path), path.stat().st_size, "e"), 0, 1, 0, 0, 4, 100)
    opener = InputOpener(lambda uri: open_store(uri, load_settings()))
    read = partial(read_windows, opener, Chunk(0, (piece,), 0), spec, observe_nothing)
    (window,) = read()
    assert window.pairs is not None
    assert [pair_of(BOTH, window.pairs[0])] == [Pair("en", "fr")]
    assert window.pairs[1:3] == ["de\t", "\tfr"]
    assert len({*window.hashes[:3]}) == 3
    (fault,) = (it for it in window.texts if isinstance(it, RowError))
    assert fault.message == "columns 'from' and 'to': the text is null"


def test_the_plan_says_where_languages_and_settings_of_rows_come_from() -> None:
    params = {"src_lang": "deu_Latn", "tgt_lang_column": "to", "row_settings_column": "own"}
    shown = shown_settings(settled(NLLB, **params), params)
    assert shown["src_lang"] == "deu_Latn (--src-lang)"
    assert shown["tgt_lang"] == "column to (--tgt-lang-column)"
    assert shown["settings of rows"] == "column own (--row-settings-column)"
    assert shown["max_length"] == "200 (config.json)"
