"""Cross-encoders and SPLADE models give what sentence-transformers gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.settings import Settings
from headrace.tasks.contract import LoadRequest
from headrace.tasks.sentence_files import splade_of
from producers.submission.spec import pair_source
from schemas.errors import ConfigError, ModelError
from tests.unit.tasks.sentence_folder import write
from tests.unit.tiny_models import TEXTS, TinyModels, answers
from workers.tasks.sparse_embedding import SparseEmbedding, largest
from workers.tasks.text_ranking import TextRanking

PASSAGES = list(reversed(TEXTS))


def load(task: Any, path: str | Path, **params: Any) -> Any:
    task.load(LoadRequest(str(path), "cpu", "float32", 512, params))
    return task


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta-v2"])
def test_a_pair_has_the_score_of_the_cross_encoder(family: str, tiny: TinyModels) -> None:
    from sentence_transformers import CrossEncoder

    path = tiny(family, "SequenceClassification", num_labels=1)
    found = answers(load(TextRanking(), path), TEXTS, pairs=PASSAGES)
    expected = CrossEncoder(path, device="cpu", max_length=512).predict(
        list(zip(TEXTS, PASSAGES, strict=True)), batch_size=1
    )
    assert [row["score"] for row in found] == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("config", "is_a_probability"),
    [
        ({}, True),
        ({"problem_type": "regression"}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
    ],
)
def test_the_activation_is_the_one_of_the_models_files(
    config: dict[str, Any], is_a_probability: bool, tiny: TinyModels
) -> None:
    from sentence_transformers import CrossEncoder

    path = tiny("bert", "SequenceClassification", num_labels=1, **config)
    found = [row["score"] for row in answers(load(TextRanking(), path), TEXTS, pairs=PASSAGES)]
    expected = CrossEncoder(path, device="cpu", max_length=512).predict(
        list(zip(TEXTS, PASSAGES, strict=True)), batch_size=1
    )
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(0 <= score <= 1 for score in found) == is_a_probability


def test_a_model_of_several_labels_does_not_rank(tiny: TinyModels) -> None:
    with pytest.raises(ModelError, match="one score"):
        load(TextRanking(), tiny("bert", "SequenceClassification", num_labels=3))


def test_ranking_needs_a_second_text() -> None:
    with pytest.raises(ConfigError, match="second text"):
        pair_source(Settings(task="text-ranking"), {})
    assert pair_source(Settings(task="text-ranking", text_pair_column="b"), {}) == "b"


# -- sparse


def splade_folder(source: str, folder: Path, **pooling: Any) -> Path:
    """As `SparseEncoder.save_pretrained` writes it."""
    shutil.copytree(source, folder)
    kinds = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    write(folder, "modules.json", [
        {"idx": i, "name": str(i), "path": path,
         "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ])  # fmt: skip
    write(folder, "1_SpladePooling/config.json", {"word_embedding_dimension": None} | pooling)
    write(folder, "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    return folder


def sparse_of(folder: Path | str) -> np.ndarray:
    from sentence_transformers import SparseEncoder

    encoder = SparseEncoder(str(folder), device="cpu")
    encoder.max_seq_length = 512
    rows = [encoder.encode([text], convert_to_sparse_tensor=False)[0] for text in TEXTS]
    return np.stack([np.asarray(row) for row in rows])


def assert_same(rows: list[dict[str, Any]], expected: np.ndarray) -> None:
    for row, wanted in zip(rows, expected, strict=True):
        sparse = row["sparse_embedding"]
        dense = np.zeros(len(wanted), np.float32)
        dense[sparse["indices"]] = sparse["values"]
        assert dense == pytest.approx(wanted, abs=5e-5, rel=1e-5)
        assert sparse["indices"] == sorted(sparse["indices"])
        assert min(sparse["values"], default=1) > 0


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "mpnet", "distilbert"])
def test_a_masked_language_model_gives_splades_vector(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "MaskedLM")
    assert_same(answers(load(SparseEmbedding(), path), TEXTS, budget=512), sparse_of(path))


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_the_folders_pooling_is_applied(
    strategy: str, activation: str, tiny: TinyModels, tmp_path: Path
) -> None:
    folder = splade_folder(
        tiny("bert", "MaskedLM"), tmp_path / "model",
        pooling_strategy=strategy, activation_function=activation,
    )  # fmt: skip
    assert_same(answers(load(SparseEmbedding(), folder), TEXTS), sparse_of(folder))


def test_only_the_largest_weights_are_kept_on_request(tiny: TinyModels) -> None:
    path = tiny("bert", "MaskedLM")
    whole = answers(load(SparseEmbedding(), path), TEXTS)
    few = answers(load(SparseEmbedding(), path, max_active_dims=5), TEXTS)
    for row, every in zip(few, whole, strict=True):
        kept = sorted(every["sparse_embedding"]["values"])[-5:]
        assert sorted(row["sparse_embedding"]["values"]) == kept
    assert largest(np.array([[1.0, 3.0, 2.0]]), 2).tolist() == [[0.0, 3.0, 2.0]]


def test_modules_that_splade_does_not_have_are_refused() -> None:
    kind = "sentence_transformers.sparse_encoder.models."
    for names in (["SparseStaticEmbedding"], ["Transformer", "Pooling", "SparseAutoEncoder"]):
        modules = [{"type": kind + name, "path": ""} for name in names]
        with pytest.raises(ModelError, match=names[-1]):
            splade_of({"modules.json": modules}.get, "here")
    both = [
        {"type": kind + "MLMTransformer", "path": ""},
        {"type": kind + "SpladePooling", "path": "1"},
    ]
    files = {"modules.json": both, "1/config.json": {"pooling_strategy": "mean"}}
    with pytest.raises(ModelError, match="pooling_strategy"):
        splade_of(files.get, "here")
