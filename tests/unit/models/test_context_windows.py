"""A long context is tokenized once, and its windows are those that the tokenizer itself would cut."""

from __future__ import annotations

import copy
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.tiny_models import WORDS_TEXT, save_tokenizer
from workers.models.context_windows import PIECE_LETTERS, FlatTokens, flat_tokens
from workers.models.question_encoder import LONG_LETTERS, QuestionEncoder

PIECES = [
    *WORDS_TEXT.split(),
    "\n",
    "  ",
    "\t",
    "é",
    "e\u0301",
    "中文字",
    "👩‍👩‍👧",
    "[SEP]",
    "ﬁ",
    "don't",
]
QUESTION = " who works in Berlin?"
SIDES = [("right", "right"), ("right", "left"), ("left", "right")]


def text_of(letters: int, seed: int) -> str:
    draw = random.Random(seed)
    text = ""
    while len(text) < letters:
        text += draw.choice(PIECES) + " " * draw.choice((0, 1, 1, 1))
    return text


def byte_level(add_prefix_space: bool) -> Any:
    """A tokenizer of RoBERTa's kind."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rust.train_from_iterator([WORDS_TEXT], trainer)
    rust.post_processor = processors.RobertaProcessing(
        ("</s>", 1), ("<s>", 0), add_prefix_space=add_prefix_space
    )
    return rust


def of_one_word() -> Any:
    """A tokenizer that does not split a text into words before it merges."""
    from tokenizers import Tokenizer, models, normalizers, processors, trainers

    rust = Tokenizer(models.BPE())
    rust.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False
    )
    rust.train_from_iterator([" ".join(PIECES), WORDS_TEXT], trainer)
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 1)],
    )
    return rust


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(Path(folder))
    rust = {
        "byte level": byte_level(False),
        "byte level, space first": byte_level(True),
        "one word": of_one_word(),
    }
    return {"WordPiece": AutoTokenizer.from_pretrained(folder)} | {
        name: PreTrainedTokenizerFast(tokenizer_object=it, cls_token="<s>", sep_token="</s>")
        for name, it in rust.items()
    }


NAMES = ["WordPiece", "byte level", "byte level, space first", "one word"]


def windows_of_transformers(
    tokenizer: Any, context: str, max_length: int, stride: int
) -> Iterator[tuple[Any, ...]]:
    """Ids, offsets, words and what is in the context, by transformers' own call."""
    first = tokenizer.padding_side == "right"
    found = tokenizer(
        *((QUESTION, context) if first else (context, QUESTION)),
        truncation="only_second" if first else "only_first",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    for at, ids in enumerate(found["input_ids"]):
        words = [-1 if it is None else it for it in found.word_ids(at)]
        inside = [it == int(first) for it in found.sequence_ids(at)]
        types = found["token_type_ids"][at] if "token_type_ids" in found else None
        yield ids, found["offset_mapping"][at], words, inside, types


@pytest.mark.parametrize(("padding", "truncation"), SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_windows_are_those_that_the_tokenizer_cuts(
    name: str, padding: str, truncation: str, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[name]
    tokenizer.padding_side, tokenizer.truncation_side = padding, truncation
    context = text_of(LONG_LETTERS + 500, seed=len(name))
    encoded = QuestionEncoder(tokenizer, 200, 31)([QUESTION], [context])
    wanted = list(windows_of_transformers(tokenizer, context, 200, 31))
    assert len(encoded) == len(wanted) > 20
    for at, (ids, offsets, words, inside, types) in enumerate(wanted):
        row = slice(int(encoded.offsets[at]), int(encoded.offsets[at + 1]))
        assert encoded.ids[row].tolist() == ids
        if encoded.type_ids is not None and types is not None:
            assert encoded.type_ids[row].tolist() == types
        where = (encoded.extra or ())[at]
        assert where.offsets.tolist() == [list(it) for it in offsets]
        assert where.words.tolist() == words
        assert where.in_context.tolist() == inside


def same(one: FlatTokens, other: FlatTokens) -> bool:
    return all(
        np.array_equal(getattr(one, field), getattr(other, field))
        for field in ("ids", "offsets", "words")
    )


class Counting:
    """A tokenizer that keeps how many letters it was given at once, its copies' too."""

    def __init__(self, rust: Any, letters: list[int] | None = None) -> None:
        self._rust, self.letters = rust, [0] if letters is None else letters

    def __deepcopy__(self, memo: Any) -> Counting:
        return Counting(copy.deepcopy(self._rust), self.letters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rust, name)

    def encode(self, text: str, *pair: str, **options: Any) -> Any:
        self.letters.append(len(text) + sum(map(len, pair)))
        return self._rust.encode(text, *pair, **options)

    def encode_batch(self, rows: list[tuple[str, str]], **options: Any) -> Any:
        self.letters.append(sum(len(a) + len(b) for a, b in rows))
        return self._rust.encode_batch(rows, **options)


class CountingTokenizer:
    """A tokenizer of transformers whose own one counts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.backend_tokenizer = Counting(tokenizer.backend_tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("name", ["WordPiece", "byte level", "one word"])
def test_the_tokenizer_never_gets_a_whole_long_context(
    name: str, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[name]
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    counting = CountingTokenizer(tokenizer)
    encoder = QuestionEncoder(counting, 200, 31)
    context = text_of(3_000, 7) * 40
    encoded = encoder([QUESTION], [context])
    assert int((encoded.extra or ())[-1].offsets.max()) > len(context) - 50
    assert max(counting.backend_tokenizer.letters) == PIECE_LETTERS < len(context)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_in_pieces_has_the_tokens_of_the_whole(
    name: str, tokenizers: dict[str, Any]
) -> None:
    rust = tokenizers[name].backend_tokenizer
    rust.no_truncation()
    for seed in range(5):
        text = text_of(5_000, seed)
        counting = Counting(rust)
        assert same(
            flat_tokens(counting, text, piece=1_000, overlap=400),
            FlatTokens.of(rust.encode(text, add_special_tokens=False)),
        )
        assert max(counting.letters) == 1_000


@pytest.mark.parametrize("letters", [399, 400, 401, 999, 1_000, 1_001, 1_600, 1_601])
def test_a_text_of_about_a_piece_has_all_its_tokens(
    letters: int, tokenizers: dict[str, Any]
) -> None:
    rust = tokenizers["WordPiece"].backend_tokenizer
    rust.no_truncation()
    text = text_of(letters, 1)[:letters]
    whole = FlatTokens.of(rust.encode(text, add_special_tokens=False))
    assert same(flat_tokens(rust, text, piece=1_000, overlap=400), whole)


@pytest.mark.parametrize(
    "text", ["x" * 5_000, " " * 5_000, "the " * 200 + "x" * 3_000 + " a" * 500]
)
def test_a_text_without_a_place_to_cut_is_read_whole(text: str, tokenizers: dict[str, Any]) -> None:
    rust = tokenizers["WordPiece"].backend_tokenizer
    rust.no_truncation()
    counting = Counting(rust)
    found = flat_tokens(counting, text, piece=1_000, overlap=400)
    assert same(found, FlatTokens.of(rust.encode(text, add_special_tokens=False)))
    assert max(counting.letters) == len(text)


def test_a_long_context_takes_little_memory_beside_its_arrays(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["WordPiece"]
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    encoder = QuestionEncoder(tokenizer, 384, 128)
    context = "one two three paris london " * (300_000 // 27)
    tracemalloc.start()
    try:
        encoded = encoder([QUESTION], [context])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(encoded) > 200
    # the arrays are 2 MB; the tokenizer's lists of a whole context would be 10 MB more
    assert peak < 5_000_000
