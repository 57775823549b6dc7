"""Labelled entities: tags of tokens or spans of a text, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from producers.training.entities import joined, readable, understand_entities
from producers.training.labels import Labels
from schemas.errors import ColumnError, ConfigError

WORDS = [["Ann", "Lee", "is", "in", "Paris"], ["no", "one"], None, ["New", "York"]]
TAGS = [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O", "O"], None, ["B-LOC", "I-LOC"]]
SPANS = [
    [{"label": "PER", "start": 0, "end": 7}, {"label": "LOC", "start": 14, "end": 19}],
    [],
    None,
    [{"label": "LOC", "start": 0, "end": 8}],
]


def of(column: Any, words: Any = None, texts: Any = None, **renamed: str) -> Labels:
    tokens = None if words is None else pa.chunked_array([pa.array(words)])
    found = joined(tokens, "tokens") if tokens is not None else pa.array(texts)
    return understand_entities(found, pa.chunked_array([pa.array(column)]), "tags", tokens, renamed)


def test_tags_and_spans_say_the_same() -> None:
    texts = [None if words is None else " ".join(words) for words in WORDS]
    by_tags, by_spans = of(TAGS, WORDS), of(SPANS, texts=texts)
    assert by_tags.names == by_spans.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert by_tags.values.to_pylist() == by_spans.values.to_pylist() == SPANS
    assert by_tags.counts == by_spans.counts == {"LOC": 2, "PER": 1}


def test_tags_that_are_numbers_get_names() -> None:
    numbers = [[1, 2, 0, 0, 3], [0, 0], None, [3, 4]]
    tags = {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-LOC", "4": "I-LOC"}
    assert of(numbers, WORDS, **tags).values.to_pylist() == SPANS
    with pytest.raises(ColumnError, match="--map 0=O"):
        of(numbers, WORDS)


def test_a_label_is_renamed_and_another_scheme_is_read() -> None:
    found = of(
        [["I-PER", "I-PER", "O"], ["S-LOC"]], [["Ann", "Lee", "ran"], ["Paris"]], PER="person"
    )
    assert found.counts == {"person": 1, "LOC": 1}
    assert "begin with I-" in found.warnings[0]


@pytest.mark.parametrize(
    ("column", "words", "said"),
    [
        ([["B-PER"]], [["a", "b"]], "row 0 has 2 tokens and 1 tags"),
        ([["PER", "O"]], [["a", "b"]], "neither O nor a label after B- or I-"),
        ([["B-", "O"]], [["a", "b"]], "neither O nor"),
        ([["B-PER", None]], [["a", "b"]], "a tag that is null"),
        ([["O", "O"]], [["a", "b"]], "holds no entity"),
        ([["B-per", "B-PER"]], [["a", "b"]], "differ in case"),
        (["B-PER"], [["a"]], "tags are a list"),
        ([["B-PER", "O"]], [["a", None]], "a token that is null"),
        ([["B-PER"]], ["a"], "lists of texts"),
        ([[{"label": "A", "start": 0, "end": 3}]], None, "from 0 to 3, and its text has 2"),
        ([[{"label": "A", "start": 1, "end": 1}]], None, "from 1 to 1"),
        ([[{"label": None, "start": 0, "end": 1}]], None, "without label"),
        ([[{"label": "A", "begin": 1, "end": 1}]], None, "lists of label, start and end"),
        ([["B-PER"]], None, "--tokens-column"),
        (
            [[{"label": "A", "start": 0, "end": 2}, {"label": "B", "start": 1, "end": 2}]],
            None,
            "overlap",
        ),
    ],
)
def test_what_is_no_entity_is_refused_with_its_place(column: Any, words: Any, said: str) -> None:
    with pytest.raises((ColumnError, ConfigError), match=said):
        of(column, words, texts=["ab"])


def test_a_text_that_is_not_utf8_has_no_entities_to_check() -> None:
    assert readable(pa.array([b"ab", b"\xff", None])).to_pylist() == ["ab", None, None]
