from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import InputUnreadable
from workers.training.text_classifier import (
    Step,
    train_demo_model,
    trained,
)

GOOD, BAD = "a lovely lamp, very good", "a terrible lamp, very bad"


def labelled(path: Path, rows: int = 80) -> Path:
    texts = [f"{GOOD if i % 2 else BAD} {i}" for i in range(rows)]
    labels = ["positive" if i % 2 else "negative" for i in range(rows)]
    pq.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


def test_a_trained_model_loads_with_transformers_and_is_kept(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows, folder, steps = labelled(tmp_path / "rows.parquet"), tmp_path / "model", list[Step]()
    record = train_demo_model(folder, rows, progress=steps.append)
    assert steps[-1].done == steps[-1].of == len(steps)
    assert (record.held_out_rows, record.training_rows) == (8, 72)

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 512
    encoded = tokenizer([GOOD.upper(), "?"], padding=True, return_tensors="pt")
    assert encoded["input_ids"][0, 0] == tokenizer.cls_token_id
    assert tokenizer.decode(encoded["input_ids"][0], skip_special_tokens=True).startswith(
        "a lovely"
    )
    assert model(**encoded).logits.shape == (2, 2)
    assert (folder / "model.safetensors").is_file()

    # a second training finds it, and needs no rows
    assert train_demo_model(folder, tmp_path / "gone.parquet") == record == trained(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "rows.parquet"]


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    rows = labelled(tmp_path / "rows.parquet")
    for name in ("one", "two"):
        train_demo_model(tmp_path / name, rows, seed=7)
    one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_training_that_dies_leaves_no_model(tmp_path: Path) -> None:
    def die(step: Step) -> None:
        raise KeyboardInterrupt

    rows, folder = labelled(tmp_path / "rows.parquet"), tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train_demo_model(folder, rows, progress=die)
    assert trained(folder) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.parquet"]


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"text": ["a"], "label": ["neutral"]}])
def test_rows_without_our_labels_are_refused(tmp_path: Path, columns: dict[str, list[str]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(InputUnreadable, match="label"):
        train_demo_model(tmp_path / "model", tmp_path / "rows.parquet")
