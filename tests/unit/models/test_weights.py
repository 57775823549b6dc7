"""Weights that are missing, quantized or unused, found by their names at submission and at load."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.storage.local import LocalStore
from headrace.tasks.contract import LoadRequest
from producers.models.quantized import PACKAGES, check_quantized
from producers.models.reference import resolve_model
from schemas.errors import MissingExtra, ModelError
from tests.unit.models.model_folder import SHAPES, write_model
from tests.unit.tiny_models import save_model
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification


def resolve(folder: Path, **more: Any) -> Any:
    return resolve_model(str(folder), None, "text-classification", LocalStore, **more)


def with_layers(*numbers: int, stack: str = "bert.encoder.layer") -> dict[str, tuple[int, ...]]:
    return {**SHAPES, **{f"{stack}.{n}.w": (1, 1) for n in numbers}}


@pytest.mark.parametrize("numbers", [(0, 1), (0, 1, 3), (1, 2, 3)])
def test_a_layer_that_the_weights_lack_is_refused_at_submission(
    tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    folder = write_model(tmp_path / "m", shapes=with_layers(*numbers), num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"says 4 layers, and its weights lack .*would be random"):
        resolve(folder)


@pytest.mark.parametrize(
    ("shapes", "config"),
    [
        (with_layers(0, 1, 2, 3), {"num_hidden_layers": 4}),
        # layers for tokens further ahead, two stacks, one layer that is used four times
        (with_layers(0, 1, stack="model.layers"), {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}),
        ({**with_layers(0), **with_layers(0, 1, stack="decoder.layers")}, {"num_hidden_layers": 2}),
        (with_layers(0, stack="encoder.albert_layer_groups"), {"num_hidden_layers": 4}),
        (SHAPES, {"num_hidden_layers": 4}),
    ],
)  # fmt: skip
def test_whole_weights_are_not_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, Any]
) -> None:
    assert resolve(write_model(tmp_path / "m", shapes=shapes, **config)).warnings == ()


def said(config: dict[str, Any], *names: str, installed: tuple[str, ...] = ("torch",)) -> list[str]:
    return list(check_quantized(names, config, "M", lambda name: name in installed))


@pytest.mark.parametrize("inner", [False, True])
def test_a_quantized_checkpoint_needs_the_package_that_reads_it(inner: bool) -> None:
    config: dict[str, Any] = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    config = {"text_config": config} if inner else config
    with pytest.raises(MissingExtra, match=r"is quantized \(gptq\), and optimum, gptqmodel is not"):
        said(config)
    assert said(config, installed=("torch", *PACKAGES["gptq"])) == []
    # where no model runs, the workers' packages are unknown
    (warning,) = said(config, installed=())
    assert "workers need optimum and gptqmodel" in warning
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        said({"quantization_config": {"load_in_4bit": True}}, installed=("torch", "accelerate"))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"quantization_config": {"quant_method": "modelopt"}}, ("layer.0.weight",)),
        ({"quantization_config": {"bits": 4}}, ()),
        ({}, ("model.layers.0.q_proj.weight", "model.layers.0.q_proj.weight_scale")),
        ({}, ("model.layers.0.q_proj.weight.absmax",)),
        ({}, ("model.layers.0.q_proj.qweight",)),
    ],
)
def test_quantized_weights_that_nothing_reads_are_refused(
    config: dict[str, Any], names: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError, match="quantized weights"):
        said(config, *names)


def test_each_method_of_transformers_has_its_packages() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    names = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    assert names == set(PACKAGES)


def bert(folder: Path, head: str, more: dict[str, torch.Tensor]) -> Path:
    """A tiny BERT with the head, and more weights in its file."""
    save_model(folder, "bert", head)
    weights = load_file(folder / "model.safetensors")
    more = {name: tensor.clone() for name, tensor in more.items()}
    save_file({**weights, **more}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def warned(task: Any, folder: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="workers.models.load"):
        task().load(LoadRequest(str(folder), "cpu", "float32", None, {}))
    return [r.getMessage() for r in caplog.records if r.name == "workers.models.load"]


ONE = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("task", "head", "more"),
    [
        (FeatureExtraction, "MaskedLM", {"bert.embeddings.position_ids": torch.arange(4)}),
        (FeatureExtraction, "SequenceClassification", {"cls.seq_relationship.weight": ONE}),
        (FeatureExtraction, "", {"lm_head.weight": ONE, "qa_outputs.weight": ONE}),
        (TextClassification, "SequenceClassification", {"cls.predictions.bias": torch.ones(2)}),
        (TextClassification, "SequenceClassification", {"vision_model.x.weight": ONE}),
    ],
)
def test_heads_for_other_tasks_are_usual(
    tmp_path: Path, task: Any, head: str, more: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert warned(task, bert(tmp_path / "m", head, more), caplog) == []


def test_weights_that_the_architecture_does_not_have_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A projection behind the last layer, as ColBERT has it, and LoRA that was not merged."""
    adapter = {f"encoder.layer.0.attention.self.query.lora_{x}.weight": ONE for x in "AB"}
    folder = bert(tmp_path / "m", "", {"linear.weight": ONE, **adapter})
    first, second = warned(FeatureExtraction, folder, caplog)
    assert "has 2 weights of an adapter that is not merged, and which do not run" in first
    assert (
        "has 1 weight that its architecture does not have, and which do not run: linear.w" in second
    )
    found = resolve_model(str(folder), None, "feature-extraction", LocalStore)
    assert any("2 matrices of an adapter that is not merged" in w for w in found.warnings)


def test_scales_that_are_not_used_are_refused_at_load_too(tmp_path: Path) -> None:
    """Else the rounded numbers were taken for the weights themselves."""
    name = "bert.encoder.layer.0.attention.self.query.weight_scale"
    folder = bert(tmp_path / "m", "SequenceClassification", {name: ONE})
    for config in ({}, {"quantization_config": {"quant_method": "modelopt"}}):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        with pytest.raises(ModelError, match="transformers does not use their scales"):
            TextClassification().load(LoadRequest(str(folder), "cpu", "float32", None, {}))
        with pytest.raises(ModelError, match="quantized weights"):
            resolve(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool])
def test_weights_of_whole_numbers_without_a_method_are_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """transformers takes them as they are: each answer would be wrong, and `ok`."""
    name = "bert.encoder.layer.0.attention.self.query.weight"
    folder = bert(tmp_path / "m", "SequenceClassification", {name: torch.ones(32, 32).to(dtype)})
    with pytest.raises(ModelError, match=r"1 weights that are no floating-point numbers \(bert\."):
        resolve(folder)
    for good in (torch.float16, torch.bfloat16, torch.float64):
        folder = bert(
            tmp_path / str(good), "SequenceClassification", {name: torch.ones(32, 32).to(good)}
        )
        assert resolve(folder).warnings == ()
