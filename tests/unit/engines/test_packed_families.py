"""Families that run packed because transformers gives them an attention interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import LoadRequest
from tests.unit.tiny_models import MORE_CONFIGS, TEXTS, TinyModels
from workers.engines.packed.families import FAMILIES
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification
from workers.tasks.transformer import TransformerTask

ROWS = [*TEXTS[2:8], TEXTS[12], TEXTS[5] * 20, TEXTS[-1]]
"""Of one token to some hundred, so that windows of 16 tokens are passed."""
CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("eurobert", {"classifier_pooling": "mean"}),
    ("eurobert", {"classifier_pooling": "late"}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
]


def load(task: TransformerTask, path: str) -> TransformerTask:
    task.load(LoadRequest(path, "cpu", "float32", 512, {}))
    return task


def alone(path: str, auto: str, task: TransformerTask) -> list[Any]:
    """What transformers' own model gives for each row by itself."""
    import torch
    import transformers

    model = getattr(transformers, auto).from_pretrained(path).eval()
    found = []
    for text in ROWS:
        ids = torch.from_numpy(task.encode([text]).ids.astype(np.int64))[None]
        with torch.inference_mode():
            found.append(model(input_ids=ids))
    return found


@pytest.mark.parametrize(
    ("family", "config"),
    [*((family, {}) for family in MORE_CONFIGS if family != "gemma2"), *CHANGED],
    ids=str,
)
def test_a_family_runs_packed_and_gives_what_transformers_gives_each_row(
    family: str, config: dict[str, Any], tiny: TinyModels
) -> None:
    assert family in FAMILIES
    path = tiny(family, "SequenceClassification", num_labels=3, **config)
    task = load(TextClassification(), path)
    assert task.engine.runner.mode == "packed"
    found = task.forward(task.encode(ROWS))
    wanted = alone(path, "AutoModelForSequenceClassification", task)
    expected = np.concatenate([out.logits.numpy() for out in wanted])
    assert np.ptp(expected, axis=0).min() > 0.01, "the rows differ"
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_a_gemma_that_looks_both_ways_does_so_packed(tiny: TinyModels) -> None:
    path = tiny("gemma3_text", "", use_bidirectional_attention=True)
    task = load(FeatureExtraction(), path)
    assert task.engine.runner.mode == "packed"
    found = task.forward(task.encode(ROWS))
    expected = [out.last_hidden_state[0].mean(0).numpy() for out in alone(path, "AutoModel", task)]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5, rtol=1e-5)


def test_a_cap_on_the_logits_of_attention_is_refused_and_the_model_padded(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the attention itself, so that a new row in the table cannot be wrong."""
    monkeypatch.setitem(FAMILIES, "gemma2", FAMILIES["gemma"])
    path = tiny("gemma2", "SequenceClassification", num_labels=3)
    assert load(TextClassification(), path).engine.runner.mode == "padded"
