"""Embeddings: pooled and normalized as asked, or as the model's own files say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError, ModelError, OutputMismatch
from tests.unit.tiny_models import TEXTS, VOCABULARY, TinyModels, answers, save_tokenizer
from workers.engines.packed.engine import Runner
from workers.engines.packed.mode_choice import TOLERANCE
from workers.tasks.feature_extraction import FeatureExtraction


def load(path: str | Path, **params: Any) -> FeatureExtraction:
    task = FeatureExtraction()
    task.load(LoadRequest(str(path), "cpu", "float32", None, params))
    return task


def embed(task: FeatureExtraction) -> np.ndarray:
    return np.array([row["embedding"] for row in answers(task, TEXTS)])


def row_by_row(path: str) -> list[np.ndarray]:
    """The last hidden states of each text alone, as the pipeline gives them."""
    from transformers import pipeline

    extract = pipeline("feature-extraction", model=path, tokenizer=path, device="cpu")
    return [np.array(extract(text, truncation=True, max_length=512)[0]) for text in TEXTS]


@pytest.fixture
def sentence_model(tiny: TinyModels, tmp_path: Path) -> Path:
    """A model with the files that sentence-transformers writes."""
    folder = tmp_path / "model"
    shutil.copytree(tiny("bert", ""), folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(modules)
            ]
        )
    )
    write_pooling(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128}))
    return folder


def write_pooling(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2", "roberta", "llama"])
def test_the_mean_is_that_of_each_row_alone(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "")
    expected = [states.mean(axis=0) for states in row_by_row(path)]
    assert embed(load(path)) == pytest.approx(np.array(expected), abs=1e-5)


def test_cls_is_the_first_token_of_each_row(tiny: TinyModels) -> None:
    path = tiny("bert", "")
    expected = [states[0] for states in row_by_row(path)]
    assert embed(load(path, pooling="cls")) == pytest.approx(np.array(expected), abs=1e-5)


def test_normalized_vectors_have_length_one(tiny: TinyModels) -> None:
    vectors = embed(load(tiny("bert", ""), normalize=True))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


@pytest.mark.parametrize("wrong", ["of another row", "not a number"])
def test_packed_vectors_that_are_wrong_are_not_used(
    wrong: str, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Runner._packed

    def packed(self: Runner, batch: Any) -> Any:
        found = right(self, batch)
        return found.roll(1, 0) if wrong == "of another row" else found * float("nan")

    monkeypatch.setattr(Runner, "_packed", packed)
    monkeypatch.setitem(TOLERANCE, "float32", TOLERANCE["bfloat16"])  # the widest there is
    assert load(tiny("bert", ""), normalize=True).engine.runner.mode == "padded"


def test_auto_does_what_the_models_own_files_say(sentence_model: Path) -> None:
    task = load(sentence_model)
    assert (task.recipe.pooling, task.max_length) == (("cls",), 128)
    assert [module.kind for module in task.recipe.after] == ["Normalize"]
    write_pooling(sentence_model, {"embedding_dimension": 32, "pooling_mode": "mean"})
    assert load(sentence_model).recipe.pooling == ("mean",)


def test_parameters_go_before_the_models_own_files(sentence_model: Path) -> None:
    task = load(sentence_model, pooling="mean", normalize=False)
    assert (task.recipe.pooling, task.recipe.after) == (("mean",), ())


def test_a_pooling_that_headrace_lacks_is_refused_by_name(sentence_model: Path) -> None:
    write_pooling(sentence_model, {"pooling_mode": "attention"})
    with pytest.raises(ModelError, match="attention"):
        load(sentence_model)
    assert load(sentence_model, pooling="mean").recipe.pooling == ("mean",)


def test_an_unknown_pooling_is_refused(tiny: TinyModels) -> None:
    with pytest.raises(ConfigError, match="auto, cls, max, mean"):
        load(tiny("bert", ""), pooling="best")


def test_a_classifier_gives_embeddings_too(tiny: TinyModels) -> None:
    vectors = embed(load(tiny("bert", "SequenceClassification", num_labels=3)))
    assert vectors.shape == (len(TEXTS), 32)


@pytest.mark.parametrize("name", ["opt", "reformer"])
def test_vectors_are_as_wide_as_what_the_model_gives(
    name: str, tiny: TinyModels, tmp_path: Path
) -> None:
    """OPT's are narrower than its `hidden_size` says, Reformer's twice as wide."""
    folder, width = save_odd_model(name, tmp_path / name)
    task = load(folder)
    expected = [states.mean(axis=0) for states in row_by_row(str(folder))]
    vectors = embed(task)
    assert vectors.shape[1] == width
    assert vectors == pytest.approx(np.array(expected), abs=1e-5)


def save_odd_model(name: str, folder: Path) -> tuple[Path, int]:
    import torch
    import transformers

    shared = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "pad_token_id": 0}
    config: Any
    if name == "opt":
        config, width = transformers.OPTConfig(
            **shared, word_embed_proj_dim=16, ffn_dim=48, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=512,
        ), 16  # fmt: skip
    else:
        config, width = transformers.ReformerConfig(
            **shared, attention_head_size=16, num_attention_heads=2, feed_forward_size=48,
            axial_pos_embds=False, max_position_embeddings=512, attn_layers=["local", "local"],
            local_attn_chunk_length=512, is_decoder=False,
        ), 64  # fmt: skip
    torch.manual_seed(7)
    transformers.AutoModel.from_config(config).eval().save_pretrained(folder)
    save_tokenizer(folder, types=False)
    return folder, width


def test_numbers_of_another_shape_are_never_laid_over_rows(tiny: TinyModels) -> None:
    task = load(tiny("bert", ""))
    batch = task.encode(["a", "the weather"])
    for wrong in (np.zeros((2, 16)), np.zeros((1, 64)), np.zeros((4, 32)), np.zeros(64)):
        with pytest.raises(OutputMismatch, match="shape"):
            task.decode(batch, wrong)


def test_a_model_that_gives_logits_alone_has_no_vectors(tiny: TinyModels) -> None:
    """Models of speech do (csm): their mean was taken for a vector once."""

    class Generates(FeatureExtraction):
        def auto_class(self) -> Any:
            from transformers import AutoModelForTokenClassification

            return AutoModelForTokenClassification

    with pytest.raises(ModelError, match=r"gives logits and no hidden states"):
        Generates().load(
            LoadRequest(tiny("bert", "TokenClassification"), "cpu", "float32", None, {})
        )
