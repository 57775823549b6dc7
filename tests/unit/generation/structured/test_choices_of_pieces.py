"""Choices for tokenizers whose tokens are no bytes: T5's pieces, and WordPiece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest
from schemas.errors import ModelError
from tests.unit.generation.engine_runs import Events
from tests.unit.generation.peaked import peaked, save_peaked
from workers.tasks.generation import GenerationTask, Text2TextGeneration, TextGeneration

CHOICES = ["good", "good film", "bad", "no film"]
TEXTS = ["good", "film bad", "no no film", "bad bad bad good", "film", "no good film"]
OTHERS = [f"x{n}" for n in range(22)]
"""So that there are as many tokens as the models have."""
PIECES = ("<pad>", "</s>", "<unk>", "▁good", "▁film", "▁b", "ad", "▁no", "▁", "g", "o", *OTHERS)
WORDS = ("[PAD]", "[SEP]", "[UNK]", "good", "film", "b", "##ad", "no", *OTHERS, "y", "z", "v")


def unigram() -> Tokenizer:
    """As T5's: a space is part of the piece behind it."""
    vocabulary = [(it, 0.0 if it.startswith("<") else -float(12 - len(it))) for it in PIECES]
    found = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    return found


def word_piece() -> Tokenizer:
    """As BERT's: letters are made small, and the pieces of a word are marked."""
    vocabulary = {it: at for at, it in enumerate(WORDS)}
    found = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    found.normalizer = normalizers.Lowercase()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.decoder = decoders.WordPiece()
    return found


def save(folder: Path, family: str) -> Path:
    from transformers import PreTrainedTokenizerFast

    save_peaked(folder, family)
    rust, words = (unigram(), PIECES) if family == "t5" else (word_piece(), WORDS)
    PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token=words[0], eos_token=words[1], unk_token=words[2],
        model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def loaded(folder: Path, family: str, choices: list[str], **more: Any) -> GenerationTask:
    task = Text2TextGeneration() if family == "t5" else TextGeneration()
    params = {"choices": json.dumps(choices), "max_new_tokens": 9, **more}
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params, engine="transformers"))
    return task


@pytest.mark.parametrize("family", ["t5", "llama", "mistral"])
def test_a_text_is_the_choice_of_generate_alone_with_the_same_tokens_allowed(
    family: str, tmp_path: Path
) -> None:
    task = loaded(save(tmp_path, family), family, CHOICES)
    rows = task.encode(TEXTS)
    answers = {it.row: it for it in task.generate(rows, Events(), 1 << 20)}
    assert {it.finish_reason for it in answers.values()} == {"stop"}
    assert {it.text for it in answers.values()} <= set(CHOICES)
    for row, text in enumerate(TEXTS):
        assert answers[row].text == alone(task, family, text)
    decoded = task.decode(rows, [answers[row] for row in range(len(TEXTS))])
    assert decoded.column("parse_error").null_count == len(TEXTS)


def alone(task: GenerationTask, family: str, text: str) -> str:
    """What transformers' `generate` writes for one row if only the choices' tokens are allowed."""
    tokenizer = task.tokenizer
    given = tokenizer([text], return_tensors="pt")["input_ids"]
    begins = 1 if family == "t5" else given.shape[1]
    ways = [tokenizer(it, add_special_tokens=False)["input_ids"] + [1] for it in CHOICES]

    def allowed(_: int, ids: Any) -> list[int]:
        new = ids[begins:].tolist()
        return sorted({way[len(new)] for way in ways if way[: len(new)] == new and way != new})

    out = peaked(family).generate(
        given, max_new_tokens=9, do_sample=False, eos_token_id=1, prefix_allowed_tokens_fn=allowed
    )
    return str(tokenizer.decode(out[0][begins:], skip_special_tokens=True))


@pytest.mark.parametrize(
    ("family", "choice", "written"), [("t5", "{a}", ""), ("llama", "Good", "good")]
)
def test_a_choice_that_the_tokenizer_writes_otherwise_is_refused(
    family: str, choice: str, written: str, tmp_path: Path
) -> None:
    folder = save(tmp_path, family)
    words = f"cannot write the choice {choice!r}: its tokenizer makes '.*{written}"
    with pytest.raises(ModelError, match=words):
        loaded(folder, family, ["good", choice])
    with pytest.raises(ModelError, match=words):
        checked(folder, family, {"choices": json.dumps(["good", choice])})
    checked(folder, family, {"choices": json.dumps(CHOICES)})


def test_a_schema_is_still_refused_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tokenizer whose tokens are bytes"):
        checked(save(tmp_path, "t5"), "t5", {"json_schema": '{"type":"object"}'})


def checked(folder: Path, family: str, params: dict[str, Any]) -> None:
    """What is refused at submission."""
    check = task_spec("text2text-generation" if family == "t5" else "text-generation").check_files
    assert check is not None

    def read(name: str) -> Any:
        file = folder / name
        return json.loads(file.read_text()) if file.exists() else None

    check(read, {"max_new_tokens": 9, **params}, "M")
