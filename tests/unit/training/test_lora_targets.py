"""Names of LoRA's layers are checked against the files of a base, before a worker loads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.storage.open import open_store
from producers.models.info import ModelInfo
from producers.models.reference import resolve_model
from producers.training.lora_targets import check_lora_targets, layers_of
from schemas.errors import ConfigError
from schemas.records.training import Lora
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import made_spec
from workers.training.model.lora import linear_layers
from workers.training.model.make import load_base


def resolved(folder: str) -> ModelInfo:
    return resolve_model(folder, None, "feature-extraction", open_store)


@pytest.mark.parametrize(
    "kind", ["bert", "distilbert", "roberta", "deberta-v2", "electra", "modernbert", "mpnet"]
)
def test_every_layer_that_a_worker_would_take_is_known_from_the_files(
    tiny: TinyModels, kind: str
) -> None:
    folder = tiny(kind, "MaskedLM")
    model, _ = load_base(Path(folder), made_spec())
    taken = {name.removeprefix(f"{model.base_model_prefix}.") for name in linear_layers(model)}
    base = resolved(folder)
    seen = {n.removeprefix(f"{model.base_model_prefix}.") for n in layers_of(base.shapes)}
    assert taken <= seen
    check_lora_targets(Lora(targets=tuple(taken)), base)


def test_a_name_that_no_layer_has_is_refused_with_those_that_there_are(tiny: TinyModels) -> None:
    base = resolved(tiny("bert", "MaskedLM"))
    check_lora_targets(Lora(targets=("query", "attention.output.dense")), base)
    with pytest.raises(ConfigError) as refused:
        check_lora_targets(Lora(targets=("query", "q_proj", "classifier")), base)
    assert str(refused.value) == (
        "--lora-targets: no linear layer of the base is called q_proj, classifier; there are "
        "dense, key, query, value"
    )
    with pytest.raises(ConfigError, match="is called uery;"):
        check_lora_targets(Lora(targets=("uery",)), base)


def test_a_base_whose_names_are_not_known_here_is_left_to_the_worker(tiny: TinyModels) -> None:
    lora = Lora(targets=("nothing",))
    base = resolved(tiny("bert", "MaskedLM"))
    check_lora_targets(None, base)
    check_lora_targets(lora, ModelInfo(base.ref, base.config))
    check_lora_targets(lora, ModelInfo(base.ref, {"model_type": "gte"}, shapes=base.shapes))
