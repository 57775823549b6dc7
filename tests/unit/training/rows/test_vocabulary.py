"""The tokenizer of a model that is made here."""

from __future__ import annotations

from pathlib import Path

from workers.training.rows.vocabulary import vocabulary, wordpiece_tokenizer

TEXTS = ["A lovely lamp, very good", "a terrible lamp, very bad"] * 3


def test_it_loads_with_transformers_and_is_the_same_each_time(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    made = wordpiece_tokenizer(TEXTS, 100, 64)
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again.get_vocab() == made.get_vocab() == wordpiece_tokenizer(TEXTS, 100, 64).get_vocab()
    assert again.model_max_length == 64
    ids = again("A LOVELY lamp")["input_ids"]
    assert again.convert_ids_to_tokens(ids) == ["[CLS]", "a", "lovely", "lamp", "[SEP]"]
    assert again.unk_token_id not in again("mad lamp".replace("m", "y"))["input_ids"]


def test_every_letter_has_a_piece_and_the_commonest_words_have_one() -> None:
    found = vocabulary({"good": 3, "bad": 2, "odd": 1, "a": 9}, 18)
    assert {"g", "##g", "a", "##a", "good", "bad"} <= found.keys()
    assert "odd" not in found  # of once, and of letters it is made anyway
    assert list(found.values()) == list(range(len(found)))
