"""The layer written out for a GPU gives what the layer as transformers has it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from tests.unit.tiny_models import TEXTS, TinyModels
from workers.engines.packed.engine import Runner
from workers.engines.packed.fused_layer import (
    fuse_layers,
    fuse_norms,
    unfuse,
)
from workers.models.tokenizer import Encoder


class Loaded:
    """A model as transformers gives it, its weights not laid out for this CPU."""

    def __init__(self, path: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(path).eval()
        self.encode = Encoder(AutoTokenizer.from_pretrained(path), 512)
        self.forward = Runner(self.model, "hidden", device="cpu", pad_id=0)
        self.forward.set_mode("packed")


def sorted_batch(task: Loaded) -> Encodings:
    encoded = task.encode(TEXTS)
    return encoded.take(np.argsort(-encoded.lengths, kind="stable"))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra"])
def test_a_fused_layer_gives_the_same_vectors(family: str, tiny: TinyModels) -> None:
    task = Loaded(tiny(family, "", hidden_act="gelu"))
    batch = sorted_batch(task)
    before = task.forward(batch)
    assert fuse_layers(task.model) == 2
    after = task.forward(batch)
    assert np.abs(after - before).max() < 1e-5
    assert np.abs(before).max() > 0.1


def test_fusing_takes_no_memory_of_its_own(tiny: TinyModels) -> None:
    model = Loaded(tiny("bert", "")).model
    fuse_layers(model)
    own = model.encoder.layer[0].attention.self
    one, two = (x.weight.untyped_storage().data_ptr() for x in (own.query, own.value))
    assert one == two


@pytest.mark.parametrize(
    ("family", "config"),
    [("bert", {"hidden_act": "gelu_new"}), ("bert", {"hidden_act": "relu"}), ("distilbert", {})],
)
def test_other_layers_stay_as_they_are(
    family: str, config: dict[str, Any], tiny: TinyModels
) -> None:
    task = Loaded(tiny(family, "", **config))
    batch = sorted_batch(task)
    before = task.forward(batch)
    assert fuse_layers(task.model) == 0
    assert np.array_equal(task.forward(batch), before)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_a_fused_norm_gives_the_same_vectors(family: str, tiny: TinyModels) -> None:
    task = Loaded(tiny(family, ""))
    batch = sorted_batch(task)
    before = task.forward(batch)
    norms = fuse_norms(task.model)
    assert len(norms) == 5  # two a layer, and the last
    assert all("forward" in vars(norm) for norm in norms)
    assert np.abs(task.forward(batch) - before).max() < 1e-5
    unfuse(norms)
    assert not any("forward" in vars(norm) for norm in norms)
    assert np.array_equal(task.forward(batch), before)


def test_padded_batches_are_computed_as_before(tiny: TinyModels) -> None:
    task = Loaded(tiny("bert", ""))
    task.forward.set_mode("padded")
    batch = sorted_batch(task)
    before = task.forward(batch)
    fuse_layers(task.model)
    assert np.array_equal(task.forward(batch), before)
