"""Texts to prompts: prefix, chat template, languages, and what is too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.generation.settings import GenerationSettings
from schemas.errors import ConfigError, InvalidRow
from tests.unit.generation.peaked import save_tokenizer
from workers.tasks.by_row.tokens import language_token
from workers.tasks.prompts import PromptEncoder, renderer_of

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} . {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def encoder(
    tokenizer: Any, task: str = "text-generation", most: int = 12, on_long: str = "error",
    prefix: str = "", **params: Any,
) -> PromptEncoder:  # fmt: skip
    settings = GenerationSettings({"max_new_tokens": 4}, {}, True, prefix)
    return PromptEncoder(
        tokenizer, renderer_of(task, tokenizer, params, settings), most=most, on_long=on_long
    )


def test_the_models_prefix_is_before_each_text(tokenizer: Any) -> None:
    found = encoder(tokenizer, "summarization", prefix="w9 ")(["w1 w2", ""])
    assert found.extra == ["w9 w1 w2", "w9 "]
    assert found.lengths.tolist() == [3, 1]


def test_a_text_is_a_prompt_where_there_is_no_chat_template(tokenizer: Any) -> None:
    assert encoder(tokenizer)(["w1 w2"]).extra == ["w1 w2"]


def test_a_template_makes_a_chat_of_each_text(tokenizer: Any) -> None:
    found = encoder(tokenizer, chat_template=TEMPLATE, system_prompt="w3")(["w1"])
    assert found.extra == ["system : w3 . user : w1 . assistant : "]


def test_messages_are_read_from_json(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    it = encoder(tokenizer, chat_template=TEMPLATE, messages_column="chat")
    assert it([json.dumps(messages)]).extra == ["user : w1 . assistant : w2 . assistant : "]
    for wrong in ("w1", "{}", "[]", '[{"role": "user"}]'):
        with pytest.raises(InvalidRow):
            it([wrong])


def test_a_chat_without_a_template_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="--chat-template"):
        encoder(tokenizer, system_prompt="w3")


def test_a_text_too_long_is_an_error_unless_it_may_be_cut(tokenizer: Any) -> None:
    long = " ".join(f"w{n}" for n in range(19))
    with pytest.raises(InvalidRow, match=r"19 tokens .* room for 12"):
        encoder(tokenizer)([long])
    right = encoder(tokenizer, on_long="truncate-right")([long, "w1"])
    assert right.extra == [" ".join(f"w{n}" for n in range(12)), "w1"]
    assert right.truncated.tolist() == [True, False]
    left = encoder(tokenizer, on_long="truncate-left")([long])
    assert left.extra == [" ".join(f"w{n}" for n in range(7, 19))]


def test_a_cut_chat_keeps_what_its_template_adds(tokenizer: Any) -> None:
    long = " ".join(f"w{n}" for n in range(19))
    it = encoder(tokenizer, most=12, on_long="truncate-right", chat_template=TEMPLATE)
    (prompt,) = it([long]).extra or [""]
    assert prompt.startswith("user : w0 w1 ")
    assert prompt.endswith(" . assistant : ")
    assert it([long]).lengths.tolist() == [12]


def test_a_tokenizer_without_languages_says_so(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="translation_en_to_de"):
        language_token(tokenizer, "en", "de")


class _Languages:
    """A tokenizer as NLLB's, as far as languages go."""

    src_lang, unk_token_id = "eng", 0
    all_special_tokens, special_tokens_map = ("<s>", "eng", "fra"), {"bos_token": "<s>"}

    def convert_tokens_to_ids(self, name: str) -> int:
        return {"eng": 7, "fra": 8, "<s>": 1, "word": 9}.get(name, 0)


def test_the_language_of_the_answer_is_its_first_token() -> None:
    it = _Languages()
    assert language_token(it, "fra", "eng") == 7
    assert it.src_lang == "fra"
    for other in ("klingon", "word", "<s>"):  # a word of the vocabulary is no language
        with pytest.raises(ConfigError, match=f"'{other}'; it knows eng, fra"):
            language_token(it, "eng", other)
    assert it.src_lang == "fra"


def test_a_template_is_kept_with_the_job(tmp_path: Path) -> None:
    from headrace.tasks.generation.specs import settle

    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    kept = settle({"chat_template": str(file), "prompt": "{a}"})
    assert kept == {"chat_template": TEMPLATE}
    assert settle(kept) == kept
    for wrong in ({"chat": False, "system_prompt": "x"}, {"prompt": "{a}", "messages_column": "m"}):
        with pytest.raises(ConfigError, match="contradict"):
            settle(wrong)
