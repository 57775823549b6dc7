"""Settings of folders that make scores: cross-encoders, and what the pipeline reads; and adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.tasks import folder_settings as table
from headrace.tasks.contract import LoadRequest
from schemas.errors import ModelError
from tests.unit.tasks.folder_edits import (
    TEXTS,
    ours,
    theirs,
)
from tests.unit.tasks.sentence_folder import Edit, both, setting, write
from tests.unit.tiny_models import answers, save_model
from workers.tasks.text_classification import TextClassification

PAIRS = [("the weather", "is fine"), ("good film", "bad"), ("paris", "a very long text " * 30)]


def scorer(folder: Path, **params: Any) -> TextClassification:
    task = TextClassification()
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params))
    return task


def our_scores(folder: Path) -> np.ndarray:
    first, second = [a for a, _ in PAIRS], [b for _, b in PAIRS]
    return np.array([r["score"] for r in answers(scorer(folder), first, pairs=second)])


def their_scores(folder: Path) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    return np.asarray(CrossEncoder(str(folder), device="cpu").predict(PAIRS, batch_size=1))


IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
TANH = "torch.nn.modules.activation.Tanh"


def as_cross_encoder(folder: Path) -> None:
    """With the list of modules without which sentence-transformers reads none of its files."""
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    write(folder, table.MODULES, [{"idx": 0, "name": "0", "path": "", "type": kind}])
    setting(table.BERT, transformer_task="sequence-classification", module_output_name="scores",
            modality_config={"text": {"method": "forward", "method_output_name": "logits"}},
            do_lower_case=True)(folder)  # fmt: skip


CROSS: dict[tuple[str, str], Callable[[str], Edit]] = {
    (table.CONFIG, "sentence_transformers.activation_fn"): lambda path: setting(
        "config.json", sentence_transformers={"activation_fn": path}
    ),
    (table.CONFIG, "sbert_ce_default_activation_function"): lambda path: setting(
        "config.json", sbert_ce_default_activation_function=path
    ),
    (table.SENTENCE, "activation_fn"): lambda path: both(
        setting(table.SENTENCE, model_type="CrossEncoder", activation_fn=path), as_cross_encoder
    ),
}


@pytest.mark.parametrize(("file", "key"), CROSS)
def test_a_cross_encoders_activation_is_its_folders(file: str, key: str, tmp_path: Path) -> None:
    for i, path in enumerate((IDENTITY, SIGMOID)):
        folder = save_model(tmp_path / str(i), "bert", "SequenceClassification", num_labels=1)
        CROSS[file, key](path)(folder)
        assert our_scores(folder) == pytest.approx(their_scores(folder), abs=2e-5)
    CROSS[file, key](TANH)(folder)
    with pytest.raises(ModelError, match="activation_fn"):
        scorer(folder)


def test_the_precision_of_a_cross_encoder_is_the_jobs(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m", "bert", "SequenceClassification", num_labels=1)
    setting(table.SENTENCE, model_type="CrossEncoder", keep_in_fp32_modules=["0.model.classifier"])(
        folder
    )
    as_cross_encoder(folder)
    assert our_scores(folder) == pytest.approx(their_scores(folder), abs=2e-5)


PIPELINE: dict[str, Any] = {
    "problem_type": "multi_label_classification",
    "id2label": {"0": "low", "1": "mid", "2": "high"},
    "function_to_apply": "none",
    "dtype": "float16",
}


@pytest.mark.parametrize("key", PIPELINE)
def test_what_the_pipeline_reads_of_a_configuration_is_read(key: str, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = save_model(tmp_path / "m", "bert", "SequenceClassification", num_labels=3)
    setting("config.json", **{key: PIPELINE[key]})(folder)
    classify = pipeline(
        "text-classification", model=str(folder), device="cpu", dtype=torch.float32, truncation=True
    )
    expected = [classify(text)[0] for text in TEXTS]
    found = answers(scorer(folder), TEXTS)
    assert [r["predicted_label"] for r in found] == [e["label"] for e in expected]
    assert [r["score"] for r in found] == pytest.approx([e["score"] for e in expected], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21
def test_an_adapter_is_refused_and_its_merged_model_is_not(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = save_model(tmp_path / "base", "bert", "")
    tuned = get_peft_model(
        AutoModel.from_pretrained(folder), LoraConfig(r=2, init_lora_weights=False)
    )
    tuned.save_pretrained(folder)
    assert (folder / "adapter_config.json").exists()
    with pytest.raises(ModelError, match="adapter"):
        ours(folder)
    merged = tmp_path / "merged"
    tuned.merge_and_unload().save_pretrained(merged)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (merged / name).write_bytes((folder / name).read_bytes())
    assert ours(merged) == pytest.approx(theirs(merged), abs=2e-5)
