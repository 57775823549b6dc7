"""DeBERTa-v2 and BART in packed batches: by forwards of our own, as transformers' on each row alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings, LoadRequest
from tests.unit.tiny_models import TEXTS, TinyModels
from workers.engines.packed.forwards import deberta
from workers.engines.packed.forwards.disentangled import Distances
from workers.engines.packed.mode_choice import difference
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.text_classification import TextClassification
from workers.tasks.token_classification import TokenClassification
from workers.tasks.transformer import TransformerTask

ROWS = [*TEXTS[2:8], TEXTS[12], *[TEXTS[5] * 3] * 3, TEXTS[5] * 20, TEXTS[-1]]
"""Of one token to some hundred, so that many distances share a bucket; three of one length."""
DEBERTA: list[dict[str, Any]] = [
    {},
    {"share_att_key": True},
    {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
    {"pos_att_type": ["c2p"]},
    {"pos_att_type": ["p2c"], "share_att_key": True},
    {"pos_att_type": []},
    {"relative_attention": False},
    {"position_buckets": -1},  # each distance has its own place, up to the last
    {"position_buckets": -1, "max_relative_positions": 40},
    {"conv_kernel_size": 3},
    {"conv_kernel_size": 3, "num_hidden_layers": 1},
    {"num_hidden_layers": 1},
]


def load(task: TransformerTask, path: str, dtype: str = "float32") -> TransformerTask:
    task.load(LoadRequest(path, "cpu", dtype, 512, {}))
    return task


def alone(path: str, auto: str, batch: Encodings) -> list[np.ndarray]:
    """What transformers' own model gives for each row by itself."""
    import torch
    import transformers

    model = getattr(transformers, auto).from_pretrained(path).eval()
    found = []
    for start, stop in zip(batch.offsets, batch.offsets[1:], strict=False):
        inputs = {"input_ids": batch.ids[start:stop]}
        if batch.type_ids is not None:
            inputs["token_type_ids"] = batch.type_ids[start:stop]
        tensors = {name: torch.from_numpy(x.astype(np.int64))[None] for name, x in inputs.items()}
        with torch.inference_mode():
            found.append(model(**tensors)[0][0].numpy())
    return found


def rows_of(ids: Sequence[Sequence[int]]) -> Encodings:
    lengths = [len(row) for row in ids]
    return Encodings(
        ids=np.concatenate([np.asarray(row, dtype=np.int32) for row in ids]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        truncated=np.zeros(len(ids), dtype=bool),
    )


@pytest.mark.parametrize("config", DEBERTA, ids=str)
def test_deberta_is_packed_and_gives_what_transformers_gives_each_row(
    config: dict[str, Any], tiny: TinyModels
) -> None:
    path = tiny("deberta-v2", "SequenceClassification", num_labels=3, **config)
    task = load(TextClassification(), path)
    assert task.engine.runner.mode == "packed"
    batch = task.encode(ROWS)
    expected = np.stack(alone(path, "AutoModelForSequenceClassification", batch))
    assert np.ptp(expected, axis=0).min() > 0.01, "the rows differ"
    assert difference(task.forward(batch), expected, "sequence") < 1e-5


@pytest.mark.parametrize("family", ["bart", "deberta-v2"])
def test_hidden_states_of_all_tokens_are_those_of_transformers(
    family: str, tiny: TinyModels
) -> None:
    path = tiny(family, "")
    task = load(FeatureExtraction(), path)
    assert task.engine.runner.mode == "packed"
    batch = task.encode(ROWS)
    expected = np.stack([states.mean(0) for states in alone(path, "AutoModel", batch)])
    assert difference(task.forward(batch), expected, "hidden") < 1e-5


def test_logits_of_tokens_are_those_of_transformers(tiny: TinyModels) -> None:
    path = tiny("deberta-v2", "TokenClassification", num_labels=3)
    task = load(TokenClassification(), path)
    assert task.engine.runner.mode == "packed"
    batch = task.encode(ROWS)
    expected = np.concatenate(alone(path, "AutoModelForTokenClassification", batch))
    assert difference(task.forward(batch), expected, "hidden") < 1e-5


@pytest.mark.parametrize(
    "ids",
    [
        [[2, 7, 9, 3], [2, 8, 3], [2, 5, 6, 3]],
        [[2, 7, 3, 9], [2, 8, 3], [2, 3, 6, 3]],  # twice, and not at the end
    ],
)
def test_bart_reads_the_last_end_of_each_row_as_transformers_does(
    ids: list[list[int]], tiny: TinyModels
) -> None:
    path = tiny("bart", "SequenceClassification", num_labels=3)
    task = load(TextClassification(), path)
    assert task.engine.runner.mode == "packed"
    batch = rows_of(ids)
    expected = np.stack(alone(path, "AutoModelForSequenceClassification", batch))
    assert np.ptp(expected, axis=0).min() > 0.01, "the rows differ"
    assert difference(task.forward(batch), expected, "hidden") < 1e-5


def test_a_row_without_an_end_is_an_error_of_barts_in_words(tiny: TinyModels) -> None:
    task = load(TextClassification(), tiny("bart", "SequenceClassification", num_labels=3))
    with pytest.raises(ValueError, match="each row must have a token of id 3"):
        task.forward(rows_of([[2, 7, 3], [2, 7, 8]]))
    with pytest.raises(ValueError, match="each row must have a token of id 3"):
        task.forward(rows_of([[2, 7, 8]]))


@pytest.mark.parametrize("family", ["bart", "deberta-v2"])
def test_bfloat16_is_packed_too(family: str, tiny: TinyModels) -> None:
    path = tiny(family, "SequenceClassification", num_labels=3)
    task = load(TextClassification(), path, "bfloat16")
    assert task.engine.runner.mode == "packed"


@pytest.mark.parametrize("family", ["bart", "deberta-v2"])
def test_another_way_runs_the_models_own_forward(family: str, tiny: TinyModels) -> None:
    task = load(TextClassification(), tiny(family, "SequenceClassification", num_labels=3))
    runner, batch = task.engine.runner, task.encode(ROWS)
    packed = runner(batch)
    runner.set_mode("padded")
    changed = [name for name, m in runner._model.named_modules() if "forward" in vars(m)]
    assert changed == []
    assert difference(packed, runner(batch), "sequence") < 1e-5


def test_a_model_with_another_encoder_is_not_changed() -> None:
    import torch

    model = torch.nn.Linear(2, 2)
    model.base_model = torch.nn.Linear(2, 2)
    assert deberta.fit_deberta(model) == []


def test_distances_of_a_short_row_are_the_middle_of_those_of_a_long_one() -> None:
    asked = []

    def places(distances: Any) -> Any:
        asked.append(len(distances))
        return distances * 10

    distances = Distances(places)
    assert distances.places(3).tolist() == [-20, -10, 0, 10, 20]
    assert distances.places(2).tolist() == [-10, 0, 10]
    assert asked == [5], "what is known is not made again"
