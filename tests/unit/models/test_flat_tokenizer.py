"""A faster tokenizer is used while it gives the ids of the usual one, and not a row longer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tasks.contract import Encodings
from workers.models.flat_tokenizer import FIRST_ROWS, Flat, FlatEncoder, flat_encoder
from workers.models.tokenizer import Encoder, PythonEncoder, encoder_of

WORDS = ["weather", "is", "fine", "today", "naïve", "café", "Ångström", "русский東京", "don't", "3.14",
         "e\u0301", "[SEP]", "<s>", "x\u200by"]  # fmt: skip
SPECIAL = {
    "WordPiece": ["[UNK]", "[CLS]", "[SEP]", "[PAD]"],
    "BPE": ["<unk>", "<s>", "</s>", "<pad>"],
}


def trained(kind: str, **options: Any) -> Any:
    """transformers' fast tokenizer of that kind, trained on a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    unk, first, last, pad = SPECIAL[kind]
    wanted: dict[str, Any] = {
        "special_tokens": SPECIAL[kind],
        "vocab_size": 400,
        "show_progress": False,
    }
    if kind == "WordPiece":
        rust = Tokenizer(models.WordPiece(unk_token=unk))
        rust.normalizer = normalizers.BertNormalizer(lowercase=True)
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(**wanted)
    else:
        rust = Tokenizer(models.BPE())
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **wanted
        )
    draw = random.Random(5)
    rust.train_from_iterator([" ".join(draw.choices(WORDS, k=9)) for _ in range(200)], trainer)
    rust.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(t, rust.token_to_id(t)) for t in (first, last)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=rust, unk_token=unk, pad_token=pad, cls_token=first, sep_token=last,
        model_input_names=["input_ids", "attention_mask"], **options,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["WordPiece", "BPE"])
def both(request: pytest.FixtureRequest) -> tuple[Encoder, FlatEncoder]:
    """The usual encoder and the faster one, of one tokenizer, with rows of 16 tokens at most."""
    tokenizer = trained(request.param)
    usual = Encoder(tokenizer, 16)
    faster = flat_encoder(tokenizer, usual, 16, 0)
    assert faster is not None
    return usual, faster


def same(one: Encodings, other: Encodings) -> bool:
    names = ("ids", "offsets", "truncated")
    return all(
        getattr(one, n).dtype == getattr(other, n).dtype
        and np.array_equal(getattr(one, n), getattr(other, n))
        for n in names
    )


@settings(deadline=None)
@given(
    st.lists(st.text() | st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=6)
)
def test_it_gives_what_the_usual_one_gives(
    both: tuple[Encoder, FlatEncoder], texts: list[str]
) -> None:
    usual, faster = both
    assert same(faster(texts), usual(texts))
    assert faster.library.split()[0] in ("nanotoken", "fastokens")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["WordPiece", "BPE"])
def test_it_cuts_and_says_what_it_cut(kind: str, side: str) -> None:
    encode = encoder_of(trained(kind, truncation_side=side), 8, stand_in=0, extra=None, ahead=False)
    assert isinstance(encode, FlatEncoder)
    one = len(encode(["fine"]).ids) - 2
    long = encode(["fine", "fine " * 40, " ".join(["fine"] * (6 // one))])
    assert long.truncated.tolist() == [False, True, False]
    assert long.lengths.max() == 8
    assert encode.library


def test_character_offsets_and_token_types_are_left_to_the_usual_one() -> None:
    offsets = encoder_of(
        trained("WordPiece"), 8, stand_in=0, extra=lambda text, e: e.offsets, ahead=False
    )
    assert not isinstance(offsets, FlatEncoder | PythonEncoder)


def test_pairs_are_encoded_by_the_usual_one(both: tuple[Encoder, FlatEncoder]) -> None:
    usual, faster = both
    assert same(faster(["fine", "naïve"], ["today", ""]), usual(["fine", "naïve"], ["today", ""]))


def usual(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
    if "refused" in texts:
        raise TypeError("no text")
    ids, offsets = flat([text or "\0" for text in texts])
    return Encodings(ids, offsets, np.zeros(len(texts), dtype=bool))


def flat(texts: Sequence[str]) -> Flat:
    ids = np.array([ord(c) for t in texts for c in t], dtype=np.int32)
    return ids, np.cumsum([0, *map(len, texts)])


class Letters:
    """A faster tokenizer: a token is a letter. `wrong` is a letter that it takes for another."""

    wrong = fails = ""

    def __call__(self, texts: Sequence[str], most: int) -> Flat:
        if self.fails and any(self.fails in t for t in texts):
            raise RuntimeError("a library's own words, maybe with the text in them")
        return flat([t.replace(self.wrong, "?") if self.wrong else t for t in texts])


def letters() -> tuple[FlatEncoder, Letters]:
    library = Letters()
    return FlatEncoder("letters 1", library, usual, 1 << 20), library


def test_it_is_given_up_at_the_first_difference(caplog: pytest.LogCaptureFixture) -> None:
    encode, library = letters()
    library.wrong = "z"
    assert encode(["abc"]).ids.tolist() == [97, 98, 99]
    assert encode.library == "letters 1"
    assert same(encode(["abz"]), usual(["abz"]))
    assert encode.library == ""
    assert "tokenizer.given_up" in caplog.text
    library.wrong = "a"
    assert same(encode(["abc"]), usual(["abc"]))


def test_of_a_first_window_many_rows_are_compared() -> None:
    encode, library = letters()
    library.wrong = "z"
    texts = ["abc"] * (FIRST_ROWS - 1) + ["abz"]
    assert same(encode(texts), usual(texts))
    assert encode.library == ""


def test_a_library_that_fails_is_given_up_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encode, library = letters()
    library.fails = "q"
    assert same(encode(["q"]), usual(["q"]))
    assert (encode.library, "own words" in caplog.text) == ("", False)


def test_a_text_that_both_refuse_is_the_rows_error() -> None:
    encode, library = letters()
    library.fails = "refused"
    with pytest.raises(TypeError, match="no text"):
        encode(["refused"])
    assert encode.library == "letters 1"


def test_a_library_that_differs_on_odd_letters_is_never_used() -> None:
    library = Letters()
    library.wrong = "\u200b"
    assert FlatEncoder("letters 1", library, usual, 1 << 20).library == ""
