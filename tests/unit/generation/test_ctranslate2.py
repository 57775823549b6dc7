"""The engine `ctranslate2`: converted once, checked, and the texts of `generate` or a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError, ModelError, Stopped
from tests.unit.generation.engine_runs import ENDS, Events, prompts_of, run, settings
from tests.unit.generation.peaked import CONFIGS, SMALL, peaked, save_peaked
from workers.engines.ctranslate2 import conversion
from workers.engines.ctranslate2.decoding import decoding_of
from workers.engines.ctranslate2.engine import CTranslate2Engine
from workers.engines.generating.base import GenerationRequest

pytest.importorskip("ctranslate2")

RANDOM = np.random.default_rng(0)
ROWS = [RANDOM.integers(3, 33, int(RANDOM.integers(2, 20))).tolist() for _ in range(12)]
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", SMALL | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
    }),
    # its padding is the last token, as in all of its models; the converter takes it away
    "marian": ("MarianConfig", SMALL | {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 64, "decoder_start_token_id": 33, "dropout": 0.0,
        "forced_eos_token_id": None, "vocab_size": 34, "pad_token_id": 33,
        "tie_word_embeddings": True,
    }),
    "m2m": ("M2M100Config", SMALL | {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 64, "decoder_start_token_id": 2, "dropout": 0.0,
    }),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, config in MORE.items():
        monkeypatch.setitem(CONFIGS, name, config)


def request(
    folder: Path, family: str, dtype: str = "float32", config: dict[str, Any] | None = None,
    **values: Any,
) -> GenerationRequest:  # fmt: skip
    from transformers import AutoConfig, AutoTokenizer

    if not folder.exists():
        if family == "marian":  # its decoder starts from a zero
            peaked(family).model.shared.weight.data[33] = 0
        save_peaked(folder, family, **(config or {}))
        if family == "marian":
            _with_padding_last(folder)
            values = {"pad_token_id": 33, **values}
    return GenerationRequest(
        LoadRequest(str(folder), "cpu", dtype, None, {}, engine="ctranslate2"),
        settings(family, **values),
        AutoConfig.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        0,
    )


def _with_padding_last(folder: Path) -> None:
    file = folder / "tokenizer.json"
    known = json.loads(file.read_text())
    words = known["model"]["vocab"]
    words["w24"] = words.pop("<pad>")
    words["<pad>"] = 33
    known["model"]["unk_token"] = "w24"
    known["added_tokens"] = [
        it | {"id": 33} if it["content"] == "<pad>" else it for it in known["added_tokens"]
    ]
    file.write_text(json.dumps(known))


def loaded(
    folder: Path, family: str, dtype: str = "float32", config: dict[str, Any] | None = None,
    **values: Any,
) -> CTranslate2Engine:  # fmt: skip
    engine = CTranslate2Engine(folder.parent / "cache")
    engine.load(request(folder, family, dtype, config, **values))
    return engine


def expected(folder: Path, rows: list[list[int]], **values: Any) -> list[str]:
    """What `generate` makes of each prompt alone, with the model as it is in the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    pair = bool(json.loads((folder / "config.json").read_text()).get("is_encoder_decoder"))
    model = (AutoModelForSeq2SeqLM if pair else AutoModelForCausalLM).from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = {"max_new_tokens": 16, "eos_token_id": ENDS, "do_sample": False, **values}
    found = []
    for ids in rows:
        given = torch.tensor([ids])
        out = model.generate(given, attention_mask=torch.ones_like(given), **asked)[0].tolist()
        new = out[1:] if pair else out[len(ids) :]
        found.append(str(tokenizer.decode(new, skip_special_tokens=True)))
    return found


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("t5", {"no_repeat_ngram_size": 2, "min_new_tokens": 3}),
        ("t5", {"num_beams": 4}),
        ("marian", {"bad_words_ids": [[33]]}),
        ("llama", {"min_new_tokens": 3, "bad_words_ids": [[8, 5], [30]]}),
        ("qwen2", {"num_beams": 4, "early_stopping": True, "eos_token_id": [12]}),
    ],
)
def test_text_is_that_of_generate_alone(
    family: str, values: dict[str, Any], tmp_path: Path
) -> None:
    engine = loaded(tmp_path / "model", family, **values)
    wanted = expected(tmp_path / "model", ROWS, **values)
    for rows in (1, 64):
        found = run(engine, prompts_of(ROWS), rows=rows)
        assert [found[at].text for at in range(len(ROWS))] == wanted


def test_a_conversion_with_other_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T5 1.1 and Flan-T5, whose outputs the converter scales with transformers 5."""
    monkeypatch.setattr(conversion, "_correct_scale", lambda *_: None)
    with pytest.raises(ModelError, match=r"other numbers than transformers.*--engine transf"):
        loaded(tmp_path / "model", "t5")
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_a_model_is_converted_once_for_each_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = conversion._convert
    monkeypatch.setattr(
        conversion,
        "_convert",
        lambda asked, folder: (made.append(folder.name), real(asked, folder)),
    )
    for dtype in ("float32", "float32", "int8", "int8"):
        engine = loaded(tmp_path / "model", "llama", dtype)
        assert engine._model.compute_type.startswith(dtype)
        assert len(run(engine, prompts_of(ROWS[:4]))) == 4
    assert len(made) == 2
    sizes = [(p / "model.bin").stat().st_size for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert min(sizes) < 0.6 * max(sizes)


@pytest.mark.parametrize(
    ("family", "words"), [("bart", "normalize_before"), ("m2m", "vocabulary"), ("mistral", "comp")]
)
def test_a_family_that_does_not_convert_is_refused_with_advice(
    family: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=rf"{words}.*--engine transformers"):
        loaded(tmp_path / "model", family)


@pytest.mark.parametrize(
    ("family", "values", "words"),
    [
        ("llama", {"do_sample": True}, "do_sample"),
        ("t5", {"repetition_penalty": 1.3}, "repetition_penalty"),
        ("llama", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size"),
        ("t5", {"num_beams": 4, "min_length": 9}, "4 beams and min_length"),
        ("llama", {"num_beams": 4}, "no early_stopping"),
        ("t5", {"num_beams": 2, "early_stopping": True}, "4 end tokens"),
        ("t5", {"num_beams": 2, "stop": ("x",)}, "--stop"),
    ],
)
def test_a_setting_with_another_text_is_refused(
    family: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{words}.*--engine transformers"):
        decoding_of(settings(family, **values), "m")


def test_a_long_input_is_read_to_its_end(tmp_path: Path) -> None:
    """CTranslate2 would cut it at 1,024 tokens, in silence."""
    long = [*RANDOM.integers(3, 33, 1024).tolist(), *[7] * 1024]
    engine = loaded(tmp_path / "model", "t5")
    found = run(engine, prompts_of([long, long[:1024]]))
    assert found[0].logprob != found[1].logprob
    assert [found[0].text] == expected(tmp_path / "model", [long])


def test_a_row_that_fails_is_the_only_one(tmp_path: Path) -> None:
    engine = loaded(tmp_path / "model", "llama")
    wanted = run(engine, prompts_of(ROWS))
    bad = [*ROWS[:5], [999], *ROWS[6:]]
    found = run(engine, prompts_of(bad))
    assert isinstance(found.pop(5).error, IndexError)
    assert {at: it.text for at, it in found.items()} == {
        at: it.text for at, it in wanted.items() if at != 5
    }


def test_a_stop_ends_the_work_and_leaves_the_engine_usable(tmp_path: Path) -> None:
    engine = loaded(tmp_path / "model", "llama")
    wanted = run(engine, prompts_of(ROWS))
    with pytest.raises(Stopped):
        run(engine, prompts_of(ROWS), rows=4, watch=Events(stop_after=2))
    assert run(engine, prompts_of(ROWS)) == wanted


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it(tmp_path: Path) -> None:
    engine = loaded(tmp_path / "model", "llama")
    whole = run(engine, prompts_of(ROWS))
    row = max(whole, key=lambda at: whole[at].n_generated)
    words = whole[row].text.split()
    found = run(loaded(tmp_path / "model", "llama", stop=(words[2],)), prompts_of(ROWS))[row]
    assert found.text.split() == words[: words.index(words[2])]
    assert (found.finish_reason, found.n_generated) == ("stop", words.index(words[2]) + 1)


def test_the_logprob_is_that_of_the_tokens(tmp_path: Path) -> None:
    import torch

    engine = loaded(tmp_path / "model", "llama", eos_token_id=[1])
    found = run(engine, prompts_of(ROWS[:1]))[0]
    model = peaked("llama")
    out = model.generate(
        torch.tensor([ROWS[0]]), max_new_tokens=16, eos_token_id=[1], do_sample=False,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    new = out.sequences[0, len(ROWS[0]) :]
    logprobs = torch.stack(out.logits)[:, 0].log_softmax(-1).gather(-1, new[:, None])
    assert found.logprob == pytest.approx(float(logprobs.sum()), abs=1e-3)
