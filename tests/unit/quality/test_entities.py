"""Entities are counted as seqeval counts them, to the last digit."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from producers.quality.entities import EntityCounts
from producers.quality.gold_entities import EntityGold, evaluate_entities, read_entities
from producers.terminal.entities import as_json, render_entities
from schemas.entity_tags import entities_of_tags, spans_of_tags
from schemas.errors import ColumnError, ConfigError
from schemas.names import output_layout
from tests.unit.quality.test_gold import output

TAGS = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "B-", "I", "O"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_of_tags_are_those_of_seqeval(tags: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert entities_of_tags(tags) == get_entities(tags)


BIO = st.lists(st.sampled_from(["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"]), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(BIO, BIO), min_size=1, max_size=12))
def test_every_number_is_seqevals(rows: list[tuple[list[str], list[str]]]) -> None:
    rows = [(a[: len(b)], b[: len(a)]) for a, b in rows]
    counts = EntityCounts()
    for gold, predicted in rows:
        tokens = ["w" * (1 + i) for i in range(len(gold))]
        counts.add(spans_of_tags(tokens, gold), spans_of_tags(tokens, predicted))
    truth, found = [a for a, _ in rows], [b for _, b in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not any(entities_of_tags(t) for t in [*truth, *found]):
            return
        each = precision_recall_fscore_support(truth, found, average=None, zero_division=0)
        micro = precision_recall_fscore_support(truth, found, average="micro", zero_division=0)
        macro = precision_recall_fscore_support(truth, found, average="macro", zero_division=0)
    ours = counts.by_label
    for theirs, own in zip(each, ("precision", "recall", "f1", "support"), strict=True):
        assert [getattr(s, own) for s in ours] == pytest.approx(list(theirs), abs=1e-9)
    it = counts.micro
    assert (it.precision, it.recall, it.f1) == pytest.approx(micro[:3], abs=1e-9)
    assert counts.micro_f1.value == pytest.approx(micro[2], abs=1e-9)
    assert counts.macro() == pytest.approx(macro[:3], abs=1e-9)
    if any(entities_of_tags(t) for t in truth):
        weighted = precision_recall_fscore_support(
            truth, found, average="weighted", zero_division=0
        )
        assert counts.weighted() == pytest.approx(weighted[:3], abs=1e-9)


def test_a_wrong_label_on_the_right_span_is_a_confusion() -> None:
    counts = EntityCounts()
    counts.add([("PER", 0, 4), ("LOC", 8, 14)], [("ORG", 0, 4), ("LOC", 8, 13)])
    assert counts.confused == {("PER", "ORG"): 1}
    assert counts.rows == {(0, 2, 2): 1}


# -- of an output

TOKENS = [["Anna", "Smith", "is", "in", "Paris"], ["no", "one"], ["Berlin"], ["Rome"]]
GOLD: list[list[str] | None] = [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O", "O"], ["B-LOC"], None]
FOUND: list[list[tuple[str, int, int]] | None] = [
    [("PER", 0, 10), ("LOC", 17, 22)], [("PER", 3, 6)], None, [("LOC", 0, 4)],
]  # fmt: skip


def entity_output(folder: Path, joined: str = " ") -> LocalStore:
    """An output of token classification, with tokens, tags and gold spans carried."""
    empty = {"id": ["a"], "status": ["ok"]}
    store = output(folder, [empty], task="token-classification")
    texts = [joined.join(tokens) for tokens in TOKENS]
    entities = [
        None if spans is None else [
            {"label": label, "start": a, "end": b, "score": 0.9, "text": text[a:b]}
            for label, a, b in spans
        ]
        for text, spans in zip(texts, FOUND, strict=True)
    ]  # fmt: skip
    spans = [
        None if tags is None else [
            {"label": label, "start": a, "end": b} for label, a, b in spans_of_tags(tokens, tags)
        ]
        for tokens, tags in zip(TOKENS, GOLD, strict=True)
    ]  # fmt: skip
    table = pa.table({
        "id": ["a", "b", "c", "d"], "tokens": TOKENS, "tags": GOLD, "spans": spans,
        "kind": ["x", "y", "x", "x"], "entities": entities, "number": [1, 2, 3, 4],
        "status": pa.array(["ok", "ok", "error", "ok"]).dictionary_encode(),
    })  # fmt: skip
    pq.write_table(table, folder / output_layout.part(0))
    return store


def test_a_row_that_a_model_was_trained_on_counts_nowhere(tmp_path: Path) -> None:
    before = evaluate_entities(entity_output(tmp_path), EntityGold("spans"))
    part = tmp_path / output_layout.part(0)
    table = pq.read_table(part)
    trained = table.slice(0, 1).set_column(
        table.column_names.index("entities"),
        "entities",
        pa.nulls(1, table.schema.field("entities").type),
    )
    pq.write_table(pa.concat_tables([table, trained]), part)
    after = evaluate_entities(LocalStore(str(tmp_path)), EntityGold("spans"))
    assert after.counts.rows == before.counts.rows
    assert after.without_prediction == before.without_prediction


@pytest.mark.parametrize(("column", "tokens"), [("tags", "tokens"), ("spans", None)])
def test_gold_entities_are_tags_or_spans(tmp_path: Path, column: str, tokens: str | None) -> None:
    found = evaluate_entities(entity_output(tmp_path), EntityGold(column, tokens), ["kind"])
    assert (found.without_gold, found.without_prediction) == (1, 1)
    assert found.counts.rows == {(2, 2, 2): 1, (0, 1, 0): 1}
    assert found.counts.micro.precision == pytest.approx(2 / 3)
    assert {v: c.micro.f1 for v, c in found.slices["kind"].items()} == {"x": 1.0, "y": 0.0}
    record: dict[str, Any] = json.loads(json.dumps(as_json(found)))
    assert record["micro"]["f1"] == pytest.approx(0.8)
    assert record["labels"][0]["label"] == "LOC"
    render_entities(found)


def test_gold_entities_come_from_a_file_by_id(tmp_path: Path) -> None:
    store = entity_output(tmp_path / "out")
    file = tmp_path / "gold.parquet"
    pq.write_table(pa.table({"key": ["a", "b"], "t": TOKENS[:2], "g": GOLD[:2]}), file)
    by_id = read_entities(
        str(file), "key", ["g", "t"], lambda uri: open_store(uri, load_settings())
    )
    found = evaluate_entities(store, EntityGold("g", "t", by_id))
    assert found.counts.rows == {(2, 2, 2): 1, (0, 1, 0): 1}
    assert found.without_gold == 2


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    store = entity_output(tmp_path / "a")
    with pytest.raises(ConfigError, match="--tokens-column"):
        evaluate_entities(store, EntityGold("tags", None))
    with pytest.raises(ColumnError, match="number"):
        evaluate_entities(store, EntityGold("number", None))
    with pytest.raises(ColumnError, match="no column gone"):
        evaluate_entities(store, EntityGold("gone", None))
    with pytest.raises(ConfigError, match="row a: its tokens, joined by spaces"):
        evaluate_entities(entity_output(tmp_path / "b", joined="  "), EntityGold("tags", "tokens"))
