"""Numbers that are none, complex, or all zeros, and names with a foreign prefix: found by reading a sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.storage.local import LocalStore
from headrace.tasks.contract import LoadRequest
from producers.models.model_files import FolderFiles
from producers.models.reference import resolve_model
from producers.models.weight_values import OTHERS, PIECE_BYTES, check_values
from schemas.errors import ModelError
from tests.unit.tiny_models import VOCABULARY, answers, save_model
from workers.models.load import check_numbers
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification

NAN, INF = float("nan"), float("inf")
HEAD, LAYER = "classifier.weight", "bert.encoder.layer.1.output.dense.weight"
TABLE, NORM = "bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.bias"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    save_model(folder, "bert", "SequenceClassification")
    return folder


def change(folder: Path, **to: Any) -> None:
    """Write the weights with others in place of some; a function changes one, None takes it away."""
    weights = load_file(folder / "model.safetensors")
    for name, value in to.items():
        weights[name] = value(weights[name].clone())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def resolve(folder: Path, task: str = "text-classification") -> Any:
    return resolve_model(str(folder), None, task, LocalStore)


def load(folder: Path, task: Any = TextClassification, warn: Any = str) -> None:
    task().load(LoadRequest(str(folder), "cpu", "float32", None, {}, warn=warn))


@pytest.mark.parametrize("name", [HEAD, "classifier.bias", LAYER, NORM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_number_that_is_none_is_refused_where_each_row_gets_it(
    bert: Path, name: str, dtype: torch.dtype
) -> None:
    change(bert, **{name: lambda w: w.to(dtype).index_fill(0, torch.tensor([1]), NAN)})
    with pytest.raises(ModelError, match=rf"NaN or infinity in 1 of \d+ tensors .*{name}"):
        resolve(bert)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_worker_refuses_them_too(bert: Path, value: float) -> None:
    change(bert, **{LAYER: lambda w: w.index_fill(0, torch.tensor([1]), value)})
    with pytest.raises(ModelError, match=f"NaN or infinity in 1 of .*{LAYER}"):
        load(bert)


def test_numbers_whose_sum_is_too_large_are_numbers() -> None:
    model = torch.nn.Linear(3, 3)
    torch.nn.init.constant_(model.weight, 3e38)
    check_numbers(LoadRequest("m", "cpu", "float32", None, {}), model, ())
    torch.nn.init.constant_(model.weight, INF)
    with pytest.raises(ModelError, match=r"in 1 of 2 tensors .weight"):
        check_numbers(LoadRequest("m", "cpu", "float32", None, {}), model, ())


def test_a_table_of_tokens_with_some_is_a_warning(bert: Path) -> None:
    change(
        bert, **{TABLE: lambda w: w.index_fill(0, torch.tensor([VOCABULARY.index("paris")]), NAN)}
    )
    (warning,) = resolve(bert).warnings
    assert f"hold NaN or infinity in {TABLE}" in warning
    assert "end as not_finite" in warning
    load(bert)
    change(bert, **{TABLE: lambda w: w.fill_(NAN)})
    with pytest.raises(ModelError, match="no row would have an answer"):
        resolve(bert)


def test_a_head_of_another_task_with_some_is_a_warning(bert: Path) -> None:
    change(bert, **{HEAD: lambda w: w.fill_(NAN)})
    (warning,) = resolve(bert, "feature-extraction").warnings
    assert HEAD in warning
    assert "for another task" in warning


def test_a_pooler_that_no_row_needs_is_not_said_to_spoil_any(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_model(folder, "bert", "")
    change(folder, **{"pooler.dense.weight": lambda w: w.fill_(NAN)})
    (warning,) = resolve(folder, "feature-extraction").warnings
    assert "pooler.dense.weight, which this task does not use" in warning
    assert "not_finite" not in warning
    load(folder, FeatureExtraction)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet"])
def test_positions_before_the_padding_s_are_read_by_no_row(tmp_path: Path, family: str) -> None:
    """Families that count after the padding token's id, 1: row 0 is never read, row 1 by padding."""
    folder = tmp_path / "m"
    save_model(folder, family, "SequenceClassification")
    (name,) = (n for n in load_file(folder / "model.safetensors") if "position_embeddings" in n)
    task = TextClassification()
    request = LoadRequest(str(folder), "cpu", "float32", None, {"scores": True})
    task.load(request)
    texts = ["", "good film", "the weather is fine today " * 40]
    whole = answers(task, texts)
    change(folder, **{name: lambda w: w.index_fill(0, torch.tensor([0]), NAN)})
    assert resolve(folder).warnings == ()
    task.load(request)
    assert answers(task, texts) == whole
    change(folder, **{name: lambda w: w.index_fill(0, torch.tensor([1]), NAN)})
    for look in (resolve, load):
        with pytest.raises(ModelError, match=f"NaN or infinity in 1 of .*{name}"):
            look(folder)


@pytest.mark.parametrize("name", [HEAD, TABLE])
def test_a_head_or_table_of_zeros_is_refused(bert: Path, name: str) -> None:
    change(bert, **{name: torch.zeros_like})
    with pytest.raises(ModelError, match=f"{name} is all zeros .*the same answer"):
        resolve(bert)


def test_zeros_elsewhere_are_usual(bert: Path) -> None:
    change(bert, **{"classifier.bias": torch.zeros_like, LAYER: torch.zeros_like})
    assert resolve(bert).warnings == ()


@pytest.mark.parametrize("name", ["attention.mask", "causal_mask", "attn_mask", "mask_bias"])
def test_a_mask_of_an_older_checkpoint_is_no_weight(bert: Path, name: str) -> None:
    weights = load_file(bert / "model.safetensors")
    weights[f"bert.encoder.layer.0.{name}"] = torch.full((3, 3), -INF).triu(1)
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    assert resolve(bert).warnings == ()
    told: list[str] = []
    load(bert, warn=told.append)
    assert told == []


def test_complex_numbers_are_refused(bert: Path) -> None:
    change(bert, **{HEAD: lambda w: w.to(torch.complex64)})
    with pytest.raises(ModelError, match=f"weights of complex numbers .{HEAD}"):
        resolve(bert)


def test_a_large_folder_is_read_in_part(tmp_path: Path) -> None:
    """The beginning of a tensor, of `OTHERS` of them: the rest is left to the workers."""
    part = PIECE_BYTES // 4
    rows = {f"layer.{n}.weight": torch.ones(1) for n in range(4 * OTHERS)}
    rows["big.weight"] = torch.cat([torch.ones(part + 2), torch.full((9,), NAN)])
    rows["classifier.weight"] = torch.ones(2, 9 * part)
    rows["classifier.weight"][1, -1] = NAN
    (tmp_path / "config.json").write_text("{}")
    save_file(rows, tmp_path / "model.safetensors")
    files = FolderFiles(tmp_path)
    assert list(check_values(files, None, "M")) == []
    # of a head the end too
    with pytest.raises(ModelError, match=r"classifier\.weight"):
        list(check_values(files, "ForSequenceClassification", "M"))


@pytest.mark.parametrize(
    ("prefix", "by"),
    [
        ("module.", "DistributedDataParallel"),
        ("_orig_mod.", "torch.compile"),
        ("module._orig_mod.", "DistributedDataParallel"),
        ("model.", "another class"),
    ],
)
def test_names_below_something_that_was_around_the_model_are_refused(
    bert: Path, prefix: str, by: str
) -> None:
    weights = load_file(bert / "model.safetensors")
    save_file({prefix + n: w for n, w in weights.items()}, bert / "model.safetensors")
    with pytest.raises(ModelError, match=rf"`{prefix.split('.')[0]}\.` of {by}"):
        resolve(bert)


def test_what_a_load_finds_is_told(bert: Path) -> None:
    change_to = load_file(bert / "model.safetensors") | {"linear.weight": torch.ones(2, 2)}
    save_file(change_to, bert / "model.safetensors", metadata={"format": "pt"})
    told: list[str] = []
    load(bert, FeatureExtraction, told.append)
    assert told == [
        "the model's folder has 1 weight that its architecture does not have, and which do not run: "
        "linear.weight"
    ]
    assert "architectures" in json.loads((bert / "config.json").read_text())
