"""Texts are tokenized in slices, so that memory is bounded, and nothing shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from tests.unit.tiny_models import TEXTS, TinyModels
from workers.models.tokenizer import (
    SLICE_LETTERS,
    SLICE_LETTERS_CPU,
    Encoder,
    encoder_of,
    slices_of,
)


@pytest.fixture
def tokenizer(tiny: TinyModels) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny("bert", "SequenceClassification"))


def _same(one: Encodings, other: Encodings) -> None:
    for name in ("ids", "offsets", "truncated"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert (one.type_ids is None) == (other.type_ids is None)
    if one.type_ids is not None:
        assert np.array_equal(one.type_ids, other.type_ids)
    assert one.extra == other.extra


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_slices_give_what_all_at_once_gives(paired: bool, ahead: bool, tokenizer: Any) -> None:
    def encode(letters: int) -> Encodings:
        more = {"extra": lambda text, e: (text, len(e)), "ahead": ahead}
        return Encoder(tokenizer, 64, slice_letters=letters, **more)(TEXTS, pairs)

    pairs = [*TEXTS[1:], ""] if paired else None
    whole = encode(1 << 20)
    for letters in (1, 30, 1000):
        _same(encode(letters), whole)


@pytest.mark.parametrize(("ahead", "most"), [(False, SLICE_LETTERS_CPU), (True, SLICE_LETTERS)])
def test_a_cpu_tokenizes_fewer_letters_at_once_than_a_gpu(
    ahead: bool, most: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(tokenizer, 16, stand_in=0, extra=lambda text, e: None, ahead=ahead)
    assert isinstance(encoder, Encoder)
    encode, seen = encoder._encode, []

    def count(rows: list[str], **more: Any) -> Any:
        seen.append(sum(map(len, rows)))
        return encode(rows, **more)

    monkeypatch.setattr(encoder, "_encode", count)
    encoder(["a " * (SLICE_LETTERS_CPU // 4)] * 10)
    assert most // 2 < max(seen) <= most


def test_a_tokenizer_that_fails_on_a_later_slice_is_heard(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizer, 64, slice_letters=1, ahead=True)
    encode = encoder._encode

    def fail(rows: list[str], **more: Any) -> Any:
        if "bad" in rows:
            raise ValueError("no tokens for that")
        return encode(rows, **more)

    monkeypatch.setattr(encoder, "_encode", fail)
    with pytest.raises(ValueError, match="no tokens"):
        encoder(["fine", "fine too", "bad", "fine again"])


def test_no_slice_but_of_one_long_text_is_over_the_limit() -> None:
    cuts = slices_of([4, 6, 1, 50, 0, 9, 1, 1], 10)
    assert cuts == [(0, 2), (2, 3), (3, 4), (4, 7), (7, 8)]
    assert slices_of([], 10) == [(0, 0)]
    assert slices_of([0, 0, 99], 10) == [(0, 3)]
