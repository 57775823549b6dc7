"""Each kind of label, from the rows to the part: several labels, numbers, pairs, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.records import part_schema
from schemas.records.text_hash import text_hash
from schemas.records.training import SPLIT, TRAIN, UNLABELLED, VALIDATION
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import MadeHost, made_spec, made_texts, window_of
from workers.pipeline.rows import ChunkStats, Window
from workers.training.loop import train
from workers.training.model.make import load_base, scale_last_layer
from workers.training.outcome import part_rows
from workers.training.predictions import columns_of, predictions_of
from workers.training.rows.labelled_rows import read_rows
from workers.training.scores import score

KINDS: dict[str, tuple[tuple[str, ...], list[Any]]] = {
    "single_label": (("negative", "positive"), ["positive", "negative"]),
    "multi_label": (("a", "b", "c"), [["a", "c"], []]),
    "regression": (("stars",), [4.5, 1.0]),
}


@pytest.mark.parametrize("problem", KINDS)
@pytest.mark.parametrize("is_pair", [False, True])
def test_every_kind_of_label_is_trained_and_written(
    tiny: TinyModels, tmp_path: Path, problem: Any, is_pair: bool
) -> None:
    labels, values = KINDS[problem]
    spec = made_spec(problem=problem, labels=labels, epochs=1)
    texts: list[str | None] = [*made_texts(22)[0], None, "unlabelled"]
    gold = [*(values * 11), values[0], None]
    kind = {"multi_label": pa.list_(pa.string()), "regression": pa.float64()}.get(problem)
    sides = [VALIDATION, TRAIN] * 11 + [UNLABELLED, UNLABELLED]
    window = window_of(texts, {"label": pa.array(gold, kind), SPLIT: sides})
    if is_pair:
        hashes = [None if t is None else text_hash(t.encode(), b"paris") for t in texts]
        window = Window(0, window.carried, window.texts, hashes, ["paris"] * len(texts))
    model, tokenizer = load_base(Path(tiny("bert", "MaskedLM")), spec)
    assert model.config.num_labels == len(labels)
    rows = read_rows([window], tokenizer, spec, SPLIT, lambda: None)
    assert (len(rows.train), len(rows.validation)) == (11, 11)
    if is_pair:
        assert rows.type_ids is not None
        assert rows.type_ids.any()
    found = train(model, rows, (0, 0), spec, MadeHost(tmp_path, "a" * 16).host())
    numbers = score(problem, found.logits, rows.targets[rows.validation], labels).numbers
    assert all(np.isfinite(v) for v in numbers.values())

    schema = part_schema.part_schema(window.carried.schema, columns_of(spec))
    stats = ChunkStats()
    part = part_rows(
        window, 0, rows, predictions_of(rows, found.logits, spec), spec, stats, schema, "t"
    ).to_pydict()
    assert [p is not None for p in part["predicted_label"]] == [s == VALIDATION for s in sides]
    assert set(filter(None, part["predicted_label"])) <= set(labels)
    assert part["status"].count("error") == stats.errors == 1
    assert (stats.rows, stats.ok) == (24, 23)


def test_weights_change_what_is_learned(tiny: TinyModels, tmp_path: Path) -> None:
    texts, labels = made_texts(40)
    window = window_of([*texts], {"label": labels, SPLIT: [TRAIN] * 39 + [VALIDATION]})
    logits = []
    for name, weights in (("even", None), ("one", (0.0, 2.0))):
        from transformers import set_seed

        spec = made_spec(class_weights=weights, epochs=2, learning_rate=1e-2)
        set_seed(0)
        model, tokenizer = load_base(Path(tiny("bert", "MaskedLM")), spec)
        rows = read_rows([window], tokenizer, spec, SPLIT, lambda: None)
        host = MadeHost(tmp_path / name, "a" * 16).host()
        logits.append(train(model, rows, (0, 0), spec, host).logits[0])
    assert logits[1].argmax() == 1
    assert logits[1][1] - logits[1][0] > logits[0][1] - logits[0][0]


def test_the_temperature_is_in_the_last_layer(tiny: TinyModels) -> None:
    import torch

    spec = made_spec()
    model, _ = load_base(Path(tiny("roberta", "MaskedLM")), spec)
    ids = torch.tensor([[2, 10, 11, 3]])
    with torch.inference_mode():
        before = model.eval()(ids).logits
    assert scale_last_layer(model, 2.0)
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, before / 2, atol=1e-6)


def test_what_came_later_changes_no_job_that_does_not_use_it() -> None:
    first = {
        "task", "problem", "label_column", "labels", "size", "epochs", "learning_rate",
        "batch_tokens", "warmup", "weight_decay", "max_length", "seed", "class_weights",
        "early_stopping", "evaluations",
    }  # fmt: skip
    spec = made_spec()
    assert spec.to_params().keys() == first
    assert type(spec).model_validate(spec.to_params()) == spec
    assert "student_layers" in made_spec(student_layers=2).to_params()
