"""Which generation settings hold, and where each is stated."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.tasks.generation.settings import GenerationSettings, settings_of
from schemas.errors import ConfigError, ModelError

T5 = {
    "model_type": "t5",
    "is_encoder_decoder": True,
    "architectures": ["T5ForConditionalGeneration"],
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "task_specific_params": {
        "summarization": {
            "prefix": "summarize: ", "max_length": 200, "min_length": 30, "num_beams": 4,
            "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3,
        },
        "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 300},
    },
}  # fmt: skip
DECODER = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 2}


def settled(
    task: str, config: dict[str, Any], generation: dict[str, Any] | None = None, **params: Any
) -> GenerationSettings:
    files = {"config.json": config, "generation_config.json": generation}
    return settings_of(task, files.get, params, "M")


def test_what_transformers_no_longer_reads_of_t5_holds() -> None:
    found = settled("summarization", T5)
    assert found.prefix == "summarize: "
    assert found.beams == 4
    assert found.values["min_length"] == 30
    assert found.new_tokens(17) == 199  # the decoder's start token is one of 200
    assert found.said_by["num_beams"] == "task_specific_params.summarization in config.json"


def test_a_pair_of_languages_chooses_the_prefix() -> None:
    found = settled("translation", T5, src_lang="en", tgt_lang="de")
    assert found.prefix == "translate English to German: "
    assert found.new_tokens(9) == 299


def test_the_bare_default_of_twenty_tokens_is_never_taken() -> None:
    with pytest.raises(ConfigError, match="--max-new-tokens"):
        settled("text-generation", DECODER)
    with pytest.raises(ConfigError, match="--max-new-tokens"):
        settled("text2text-generation", T5)  # its lengths are of other tasks
    assert settled("text-generation", DECODER, max_new_tokens=7).new_tokens(100) == 7


def test_an_option_comes_before_the_files() -> None:
    found = settled("summarization", T5, max_new_tokens=50, num_beams=1)
    assert found.new_tokens(3) == 50
    assert found.beams == 1
    assert "max_length" not in found.values
    assert found.said_by["max_new_tokens"] == "--max-new-tokens"


def test_generation_config_comes_before_config() -> None:
    config = DECODER | {"temperature": 0.1, "max_length": 30}
    stated = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 64}
    found = settled("text-generation", config, stated)
    assert found.values["temperature"] == 0.6
    assert "max_length" not in found.values  # where there is the one file, the other is not read
    assert found.values["eos_token_id"] == 2  # but for tokens
    assert found.said_by["top_p"] == "generation_config.json"


def test_old_models_keep_their_settings_in_config() -> None:
    bart = {"is_encoder_decoder": True, "num_beams": 4, "max_length": 142, "min_length": 56,
            "architectures": ["BartForConditionalGeneration"]}  # fmt: skip
    found = settled("summarization", bart)
    assert (found.beams, found.new_tokens(5)) == (4, 141)
    assert found.said_by["max_length"] == "config.json"


def test_a_length_of_a_decoder_counts_its_prompt() -> None:
    found = settled("text-generation", DECODER | {"max_length": 50})
    assert found.new_tokens(20) == 30
    assert found.new_tokens(60) < 1


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, True),
        ({"temperature": 0.0}, False),
        ({"num_beams": 3}, False),
        ({"top_k": 5}, True),
    ],
)
def test_options_decide_whether_it_samples(params: dict[str, Any], expected: bool) -> None:
    stated = {"do_sample": True, "temperature": 0.6, "max_new_tokens": 8}
    found = settled("text-generation", DECODER, stated, **params)
    assert found.values["do_sample"] is expected
    assert ("temperature" in found.values) is expected


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_beams": 4, "temperature": 0.5}, "--num-beams 1"),
        ({"max_new_tokens": 0}, "at least one token"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "cannot both hold"),
        ({"max_new_tokens": 3, "top_p": 1.5}, "--top-p"),
        ({"max_new_tokens": 3, "stop": '["a", ""]'}, "--stop"),
        ({"max_new_tokens": 3, "src_lang": "en"}, "together"),
    ],
)
def test_options_that_contradict_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settled("text-generation", DECODER, **({"max_new_tokens": 5} | params))


def test_a_way_of_generating_that_is_not_done_is_refused() -> None:
    stated = {"max_new_tokens": 8, "guidance_scale": 1.5}
    with pytest.raises(ModelError, match="guidance_scale"):
        settled("text-generation", DECODER, stated)
    assert settled("text-generation", DECODER, {"max_new_tokens": 8, "guidance_scale": 1.0})


def test_a_model_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="--task text-generation"):
        settled("summarization", DECODER, max_new_tokens=5)
    with pytest.raises(ModelError, match="text2text"):
        settled("text-generation", T5, max_new_tokens=5)


def test_a_model_of_many_languages_asks_for_two() -> None:
    m2m = {"model_type": "m2m_100", "is_encoder_decoder": True, "max_length": 200}
    with pytest.raises(ConfigError, match="--src-lang"):
        settled("translation", m2m)
    assert settled("translation", m2m, src_lang="en", tgt_lang="fr").new_tokens(4) == 199


def test_stops_are_one_text_or_a_list() -> None:
    assert settled("text-generation", DECODER, max_new_tokens=5, stop="\n\n").stop == ("\n\n",)
    assert settled("text-generation", DECODER, max_new_tokens=5, stop='["a", "b"]').stop == (
        "a",
        "b",
    )
    assert settled("text-generation", DECODER, max_new_tokens=5, stop="[x").stop == ("[x",)
