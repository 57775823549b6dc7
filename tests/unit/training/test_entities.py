"""Training on entities: sub-words get their tags, and the scores are those of seqeval."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from headrace.tasks.contract import LoadRequest
from schemas.entity_tags import entities_of_tags, tags_of_labels
from schemas.records.training import SPLIT, TRAIN, VALIDATION, TrainingSpec
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import MadeHost, made_spec, window_of
from workers.training.entity_scores import entity_counts, score_entities
from workers.training.loop import Trained, train
from workers.training.model.make import load_base, make_model, save_model
from workers.training.outcome import calibrate
from workers.training.predictions import predictions_of
from workers.training.rows.labelled_rows import Collator, LabelledRows, read_rows
from workers.training.rows.token_tags import NO_TAG, spans_of_tags, tags_of_spans

LABELS = tags_of_labels(["LOC", "PER"])
SPANS = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))


def entity_spec(**changes: Any) -> TrainingSpec:
    given = {"task": "token-classification", "problem": "entities", "labels": LABELS}
    return made_spec(**given | changes)


def entity_rows(tokenizer: Any, spec: TrainingSpec, count: int = 60) -> LabelledRows:
    """Rows in which `paris` is a place and `hello` a name."""
    texts, spans = [], []
    for row in range(count):
        words = ["the", "weather", "is", "long"][: row % 4 + 1]
        words[row % len(words) : row % len(words)] = ["paris" if row % 3 else "hello"]
        text = " ".join(words)
        at = text.index("paris" if row % 3 else "hello")
        texts.append(text)
        spans.append([{"label": "LOC" if row % 3 else "PER", "start": at, "end": at + 5}])
    sides = [VALIDATION if i % 4 == 0 else TRAIN for i in range(count)]
    window = window_of([*texts, None, ""], {
        "label": pa.array([*spans, None, []], SPANS), SPLIT: [*sides, TRAIN, TRAIN],
    })  # fmt: skip
    return read_rows([window], tokenizer, spec, SPLIT, lambda: None)


def test_every_token_of_an_entity_has_a_tag_and_special_ones_have_none() -> None:
    # [CLS] An ##n ran [SEP]; a leading space belongs to the token in some tokenizers
    places = np.array([(0, 0), (0, 2), (2, 3), (3, 7), (0, 0)], np.int32)
    number = {tag: i for i, tag in enumerate(LABELS)}
    tags = tags_of_spans(places, [("PER", 0, 3)], number)
    assert tags.tolist() == [NO_TAG, number["B-PER"], number["I-PER"], number["O"], NO_TAG]
    own = [1, 2, 3]
    assert spans_of_tags(places[own], [LABELS[t] for t in tags[own]]) == [(("PER", 0, 3), 0, 1)]
    with pytest.raises(KeyError):
        tags_of_spans(places, [("ORG", 0, 3)], number)


def test_an_entity_that_was_cut_off_has_no_tag() -> None:
    places = np.array([(0, 0), (0, 3), (0, 0)], np.int32)
    number = {tag: i for i, tag in enumerate(LABELS)}
    assert tags_of_spans(places, [("PER", 4, 9)], number).tolist() == [NO_TAG, 0, NO_TAG]


TAGS = st.sampled_from(["O", "O", *LABELS[1:]])
ROWS = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=7), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_the_scores_are_those_of_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    gold, told = ([[pair[i] for pair in row] for row in rows] for i in (0, 1))
    lengths = [len(row) for row in rows]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    logits = np.full((offsets[-1], len(LABELS)), -5.0, np.float32)
    logits[np.arange(offsets[-1]), [LABELS.index(tag) for row in told for tag in row]] = 5.0
    places = np.concatenate([np.arange(n)[:, None] + [0, 1] for n in lengths])
    numbers = np.arange(len(rows))
    found = LabelledRows(
        ids=np.zeros(offsets[-1], np.int32), type_ids=None, offsets=offsets,
        truncated=np.zeros(len(rows), bool),
        targets=np.array([LABELS.index(tag) for row in gold for tag in row]),
        train=numbers[:0], validation=numbers, places=places,
        entities=[[(n, a, b + 1) for n, a, b in entities_of_tags(row)] for row in gold],
    )  # fmt: skip
    scores = score_entities(found, numbers, logits, entity_spec()).numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, of in (
            ("f1", f1_score),
            ("precision", precision_score),
            ("recall", recall_score),
        ):
            assert scores[name] == pytest.approx(of(gold, told, zero_division=0), abs=1e-9)


def test_it_learns_entities_and_its_version_finds_the_same(tmp_path: Path) -> None:
    from transformers import set_seed

    from schemas.records.training import Size
    from workers.tasks.token_classification import TokenClassification

    size = Size(layers=1, width=32, vocabulary=100)
    spec = entity_spec(
        size=size, epochs=8, learning_rate=1e-2, batch_tokens=128, max_length=16, early_stopping=0
    )
    set_seed(0)
    texts = ["the weather is long paris hello"] * 3
    model, tokenizer = make_model(texts, spec)
    rows = entity_rows(tokenizer, spec)
    assert len(rows.train) == 45  # neither the null nor the empty text
    assert entity_counts(rows, rows.train, spec) == {"LOC": 30, "PER": 15}
    batch = Collator(rows, 0)([0, 1])
    assert batch["labels"].shape == batch["input_ids"].shape
    found = train(model, rows, (0, 0), spec, MadeHost(tmp_path, "a" * 16).host())
    assert max(h.get("validation_f1", 0) for h in found.history) > 0.9
    calibrate(model, found, rows, spec)
    told = predictions_of(rows, found.logits, spec)

    save_model(model, tokenizer, tmp_path / "model")
    task = TokenClassification()
    task.load(LoadRequest(str(tmp_path / "model"), "cpu", "float32", None, {}))
    said = [str(rows.windows[0].texts[row]) for row in told]
    again = task.decode(*_forward(task, said)).to_pydict()["entities"]
    for spans, entities in zip(told.values(), again, strict=True):
        assert [s for s, _ in spans] == [(e["label"], e["start"], e["end"]) for e in entities]
        assert [v for _, v in spans] == pytest.approx([e["score"] for e in entities], abs=1e-5)


def _forward(task: Any, texts: list[str]) -> tuple[Any, Any]:
    encoded = task.encode(texts)
    return encoded, task.forward(encoded)


def test_a_resumed_training_on_entities_has_the_same_weights(
    tiny: TinyModels, tmp_path: Path
) -> None:
    from transformers import set_seed

    from schemas.errors import Stopped

    spec = entity_spec(epochs=1, batch_tokens=128)
    folder = Path(tiny("bert", "MaskedLM"))

    def run(made: MadeHost) -> tuple[Trained, Any]:
        set_seed(0)
        model, tokenizer = load_base(folder, spec)
        return train(model, entity_rows(tokenizer, spec), (0, 0), spec, made.host()), model

    whole, model = run(MadeHost(tmp_path / "whole", "a" * 16))
    with pytest.raises(Stopped):
        run(MadeHost(tmp_path / "cut", "b" * 16, stop_after=2))
    resumed, same = run(MadeHost(tmp_path / "cut", "c" * 16))
    assert resumed.resumed_from == 2
    assert np.array_equal(resumed.logits, whole.logits)
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy())
