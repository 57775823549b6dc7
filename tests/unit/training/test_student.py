"""Distillation: a student begins with some layers of its teacher and learns the teacher's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from producers.training.asked import Asked, check_options
from producers.training.teacher import gold_and_taught, read_teacher, teaching_job
from schemas.errors import ColumnError, ConfigError
from schemas.names import output_layout
from schemas.records.text_hash import text_hash
from schemas.records.training import SPLIT, TEACHER, TRAIN, VALIDATION, Distillation, Size
from tests.unit.quality.test_gold import output
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import MadeHost, made_spec, made_texts, window_of
from workers.training.loop import train
from workers.training.model.make import load_base
from workers.training.model.student import distillation_loss, kept_layers, student_of
from workers.training.rows.labelled_rows import read_rows

BY = Distillation(job="0" * 16, temperature=2.0, gold_weight=0.25)


@pytest.mark.parametrize(
    ("of", "layers", "kept"),
    [(12, 6, (0, 2, 4, 7, 9, 11)), (6, 3, (0, 2, 5)), (4, 1, (0,)), (4, 4, (0, 1, 2, 3))],
)
def test_layers_are_evenly_spread(of: int, layers: int, kept: tuple[int, ...]) -> None:
    assert kept_layers(of, layers) == kept


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_a_student_is_the_same_when_it_is_loaded_again(
    tiny: TinyModels, tmp_path: Path, family: str
) -> None:
    import torch

    count = "n_layers" if family == "distilbert" else "num_hidden_layers"
    folder = Path(tiny(family, "SequenceClassification", num_labels=2, **{count: 4}))
    teacher, tokenizer = load_base(folder, made_spec())
    student, _ = load_base(folder, made_spec(student_layers=2))
    weights = [
        [p for n, p in model.named_parameters() if ".layer" in n and n.endswith("weight")]
        for model in (teacher, student)
    ]
    assert len(weights[0]) > len(weights[1])
    assert torch.equal(weights[0][-1], weights[1][-1])
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    again, _ = load_base(tmp_path / "student", made_spec(student_layers=2))
    assert student_of(again, 2) is again
    ids = torch.tensor([[2, 10, 11, 3]])
    with torch.inference_mode():
        assert torch.allclose(student.eval()(ids).logits, again.eval()(ids).logits, atol=1e-5)


def test_the_loss_is_that_of_hinton() -> None:
    import torch

    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=chance)
    theirs = torch.randn(4, 3, generator=chance)
    targets = torch.tensor([0, 1, 2, 1])
    is_gold = torch.tensor([True, False, True, False])
    teacher = theirs.softmax(-1)
    teacher[2] = float("nan")  # a row with a gold label alone
    found = distillation_loss(logits, targets, teacher, is_gold, BY)
    p, q = (x.div(2).softmax(-1) for x in (theirs, logits))
    soft = (p * (p / q).log()).sum(-1) * 4
    hard = -logits.log_softmax(-1)[torch.arange(4), targets]
    rows = [0.25 * hard[0] + 0.75 * soft[0], soft[1], hard[2], soft[3]]
    assert found.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)
    sure = torch.tensor([[1.0, 0.0, 0.0]])  # float32 makes 0 of what is very small
    assert distillation_loss(logits[:1], targets[:1], sure, is_gold[1:2], BY).isfinite()


def test_a_student_learns_without_a_gold_label(tiny: TinyModels, tmp_path: Path) -> None:
    from transformers import set_seed

    texts, labels = made_texts(160)
    spec = made_spec(
        size=Size(layers=1, width=32, vocabulary=200), epochs=8, learning_rate=5e-3, max_length=64,
        batch_tokens=512, distillation=BY, early_stopping=0,
    )  # fmt: skip
    told = [[0.9, 0.1] if label == "negative" else [0.2, 0.8] for label in labels]
    sides = [VALIDATION if i % 4 == 0 else TRAIN for i in range(160)]
    window = window_of([*texts], {
        "label": pa.array([labels[0], *[None] * 159]), SPLIT: sides,
        TEACHER: pa.array([None, *told[1:]], pa.list_(pa.float32())),
    })  # fmt: skip
    set_seed(0)
    from workers.training.model.make import make_model

    model, tokenizer = make_model(texts, spec)
    rows = read_rows([window], tokenizer, spec, SPLIT, lambda: None)
    assert rows.is_gold is not None
    assert rows.is_gold.sum() == 1
    found = train(model, rows, (0, 0), spec, MadeHost(tmp_path, "a" * 16).host())
    assert max(h.get("validation_macro_f1", 0) for h in found.history) > 0.9
    sure = np.exp(found.logits) / np.exp(found.logits).sum(-1, keepdims=True)
    assert sure.max(-1).mean() < 0.95  # it is as unsure as its teacher


def teacher_output(folder: Path, **columns: Any) -> LocalStore:
    hashes = [text_hash(text.encode()) for text in ("a", "b", "c")]
    part = {
        "id": ["1", "2", "3"], "predicted_label": ["neg", "pos", None], "score": [0.9, 0.7, None],
        "status": ["ok", "ok", "error"], "text_hash": hashes,
    }  # fmt: skip
    store = output(folder, [])
    (folder / output_layout.DATA).mkdir(exist_ok=True)
    pq.write_table(pa.table({**part, **columns}), folder / output_layout.part(0))
    return store


def test_a_teacher_is_read_by_text(tmp_path: Path) -> None:
    store = teacher_output(tmp_path)
    teacher = read_teacher(store, teaching_job(store), ("neg", "pos"))
    taught = teacher.scores([text_hash(t) for t in (b"b", b"a", b"x")] + [None])
    assert taught[0] == pytest.approx([0.3, 0.7])
    assert taught[1] == pytest.approx([0.9, 0.1])
    assert taught[2:] == [None, None]
    gold = pa.chunked_array([[1, None, None, 0]])
    labels, known = gold_and_taught(teacher, taught, gold, "g", {"0": "neg", "1": "pos"})
    assert labels.values.to_pylist() == ["pos", None, None, "neg"]
    assert known == ["pos", "neg", None, "neg"]
    assert labels.counts == {"pos": 1, "neg": 2}
    with pytest.raises(ColumnError, match="none of the teacher's"):
        gold_and_taught(teacher, taught, gold, "g", {})
    with pytest.raises(ColumnError, match="none of these texts"):
        gold_and_taught(teacher, [None], None, "g", {})


def test_scores_that_are_no_distribution_are_refused(tmp_path: Path) -> None:
    store = teacher_output(tmp_path / "one")
    with pytest.raises(ConfigError, match="--scores"):
        read_teacher(store, teaching_job(store), ("neg", "pos", "other"))
    scores = [[{"label": n, "score": 0.9} for n in ("neg", "pos")]] * 3
    store = teacher_output(tmp_path / "two", scores=scores)
    with pytest.raises(ConfigError, match="sum to 1"):
        read_teacher(store, teaching_job(store), ("neg", "pos"))
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match="not text-classification"):
        teaching_job(output(tmp_path / "three", [{"id": ["1"]}], task="feature-extraction"))


@pytest.mark.parametrize(
    "asked",
    [
        Asked("label"),
        Asked("label", teacher="out", base=None, balanced=True),
        Asked("label", base="m", distilled={"temperature": 3.0}),
        Asked("label", size=Size(), student_layers=1),
        Asked("label", teacher="out", task="token-classification"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(asked: Asked) -> None:
    with pytest.raises(ConfigError):
        check_options(load_settings(), asked)
