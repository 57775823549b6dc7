"""A model that does not fit the task is refused when it is loaded, and the message says why."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.contract import LoadRequest, Task
from schemas.errors import ModelError
from tests.unit.models.model_folder import write_tokenizer
from tests.unit.tiny_models import LABELS, TEXTS, TinyModels, answers
from workers.engines.packed.families import depends_on_batch
from workers.tasks.text_classification import TextClassification
from workers.tasks.token_classification import TokenClassification


@pytest.fixture
def folder(tiny: TinyModels, tmp_path: Path) -> Path:
    """A copy to break."""
    copy = tmp_path / "model"
    shutil.copytree(tiny("bert", "SequenceClassification", num_labels=3), copy)
    return copy


def load(path: str | Path, task: Any = TextClassification, **request: Any) -> Task:
    loaded = task()
    loaded.load(
        LoadRequest(
            str(path), "cpu", **({"dtype": "float32", "max_length": None, "params": {}} | request)
        )
    )
    return loaded


def edit(folder: Path, name: str, **changes: Any) -> None:
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(settings | changes))


def test_a_model_without_the_tasks_head_is_refused(folder: Path, tiny: TinyModels) -> None:
    with pytest.raises(ModelError, match=r"BertForSequenceClassification.*ForTokenClassification"):
        load(folder, TokenClassification)
    with pytest.raises(ModelError, match="no head for text-classification: it is a BertModel"):
        load(tiny("bert", ""))


def test_a_head_that_is_only_named_would_be_random_and_is_refused(
    tiny: TinyModels, tmp_path: Path
) -> None:
    shutil.copytree(tiny("bert", ""), tmp_path / "model")
    edit(tmp_path / "model", "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(ModelError, match=r"random.*classifier"):
        load(tmp_path / "model")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load(tmp_path)


def test_pickled_weights_are_refused_unless_allowed(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        load(folder)
    assert answers(load(folder, allow_pickle=True), ["the"])


def test_damaged_files_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_max_length_beyond_the_positions_is_refused(folder: Path, tiny: TinyModels) -> None:
    with pytest.raises(ModelError, match="513 is more than the 512 positions"):
        load(folder, max_length=513)
    roberta = tiny("roberta", "SequenceClassification", num_labels=3)
    with pytest.raises(ModelError, match="512 positions"):
        load(roberta, max_length=513)  # 514 in its table, of which two are never used
    with pytest.raises(ModelError, match="no room"):
        load(folder, max_length=2)


def test_max_length_is_the_models_own_by_default(folder: Path) -> None:
    edit(folder, "tokenizer_config.json", model_max_length=100)
    assert load(folder).max_length == 100  # type: ignore[attr-defined]
    edit(folder, "tokenizer_config.json", model_max_length=int(1e30))
    assert load(folder).max_length == 512  # type: ignore[attr-defined]


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_that_the_configuration_leaves_out_are_logged(
    layers: int, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(folder, "config.json", num_hidden_layers=layers)
    with caplog.at_level(logging.WARNING):
        load(folder)
    said = "16 weights of layers that its config.json leaves out, and which do not run: bert.encoder.layer.1"
    assert (said in caplog.text) == (layers == 1)


def test_a_precision_that_is_not_built_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="int4"):
        load(folder, dtype="int4")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_way_and_about_the_answers(dtype: str, folder: Path) -> None:
    exact = answers(load(folder), TEXTS)
    task = load(folder, dtype=dtype)
    assert not task.padded  # type: ignore[attr-defined]
    for row, other in zip(answers(task, TEXTS), exact, strict=True):
        assert row["score"] == pytest.approx(other["score"], abs=0.1)


def test_a_packing_that_is_wrong_is_found_and_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from workers.engines.packed import families

    # RoBERTa's positions on BERT: what happens when a new release changes a family
    wrong = families.Family(families.FAMILIES["bert"].head, positions_skip_padding=True)
    monkeypatch.setitem(families.FAMILIES, "bert", wrong)
    edit(folder, "config.json", pad_token_id=5)
    with caplog.at_level(logging.WARNING):
        task = load(folder)
    assert task.padded  # type: ignore[attr-defined]
    assert "packed batches differ" in caplog.text


def test_a_decoder_without_a_padding_token_takes_any_batch(
    tiny: TinyModels, tmp_path: Path
) -> None:
    shutil.copytree(tiny("llama", "SequenceClassification", num_labels=3), tmp_path / "model")
    edit(tmp_path / "model", "config.json", pad_token_id=None)
    task = load(tmp_path / "model")
    together = answers(task, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert answers(task, [text])[0]["score"] == pytest.approx(row["score"], abs=1e-5)


def test_positions_that_depend_on_the_batch_keep_rows_of_one_length_together(
    tiny: TinyModels,
) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    path = tiny("llama", "SequenceClassification", num_labels=3, rope_parameters=rope)
    task = load(path)
    assert depends_on_batch(task.config)  # type: ignore[attr-defined]
    assert task.engine.runner.mode == "equal"  # type: ignore[attr-defined]
    for text, row in zip(TEXTS, answers(task, TEXTS), strict=True):
        assert answers(task, [text])[0]["score"] == pytest.approx(row["score"], abs=1e-5)


def test_a_text_without_any_token_is_scored(tiny: TinyModels, tmp_path: Path) -> None:
    shutil.copytree(tiny("qwen2", "SequenceClassification", num_labels=3), tmp_path / "model")
    edit(tmp_path / "model", "tokenizer.json", post_processor=None)
    rows = answers(load(tmp_path / "model"), ["", "the weather", "", "is"])
    assert rows[0] == rows[2]
    assert len({row["score"] for row in rows}) == 3


def test_labels_keep_the_order_of_their_ids(tiny: TinyModels) -> None:
    task = load(tiny("bert", "SequenceClassification", id2label=LABELS), params={"scores": True})
    row = answers(task, ["the"])[0]
    assert [s["label"] for s in row["scores"]] == list(LABELS.values())


def test_labels_that_are_numbers_are_read_as_text(folder: Path) -> None:
    edit(
        folder, "config.json", id2label={"0": 7, "1": 8, "2": 9}, label2id={"7": 0, "8": 1, "9": 2}
    )
    task = load(folder)
    batch = task.encode(["a good film"])
    found = task.decode(batch, task.forward(batch))
    assert found.column("predicted_label").to_pylist()[0] in ("7", "8", "9")


def test_labels_with_gaps_are_refused_here_too(folder: Path) -> None:
    edit(folder, "config.json", id2label={"0": "a", "1": "b", "5": "c"}, label2id=None)
    with pytest.raises(ModelError, match=r"numbers its labels 0, 1, 5 \(id2label\)"):
        load(folder)


def test_weights_of_another_shape_are_named_with_both(folder: Path) -> None:
    edit(folder, "config.json", max_position_embeddings=1024)
    shapes = (
        r"position_embeddings.weight is \[512, 32\], and the configuration makes it \[1024, 32\]"
    )
    with pytest.raises(ModelError, match=shapes):
        load(folder)


def test_a_folder_without_tokenizer_files_is_refused_here_too(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match="has no tokenizer files"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused_here_too(folder: Path) -> None:
    write_tokenizer(folder, {"[UNK]": 0, "good": 1})
    with pytest.raises(ModelError, match="it is another model's tokenizer"):
        load(folder)


def test_a_probe_of_a_million_tokens_needs_no_text_of_a_million_words(tiny: TinyModels) -> None:
    task: Any = load(tiny("llama", "SequenceClassification"))
    task.max_length = 1_000_000
    lettered: list[int] = []
    encode = task._encoder
    task._encoder = lambda texts, pairs: lettered.append(len(texts[0])) or encode(texts, pairs)
    batch = task.probe_batch(131_072, None)
    assert batch.lengths.sum() <= 131_072
    assert max(lettered) < 100_000
    assert task.probe_batch(2048, 24).lengths.tolist() == [24] * 85
