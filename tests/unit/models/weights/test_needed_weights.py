"""Weights that an architecture needs are looked for by their names, at submission and without torch."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.storage.local import LocalStore
from headrace.tasks.contract import LoadRequest
from producers.models.needed_weights import FAMILIES, check_needed, odd_weights
from producers.models.reference import resolve_model
from schemas.errors import ModelError
from tests.unit.tiny_models import CONFIGS, save_model
from workers.tasks.text_classification import TextClassification

HEADS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", None)


def architecture(family: str, head: str | None) -> Any:
    """The model of transformers, without any memory."""
    import transformers

    name, settings = CONFIGS[{"camembert": "roberta"}.get(family, family)]
    config = getattr(
        transformers, name.replace("Roberta", "Camembert") if family == "camembert" else name
    )
    auto = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
    with torch.device("meta"):
        return auto.from_config(config(**settings))


@pytest.mark.parametrize(("family", "head"), product(FAMILIES, HEADS))
def test_what_is_needed_is_what_transformers_makes(family: str, head: str | None) -> None:
    model = architecture(family, head)
    config, suffix = model.config.to_dict(), f"For{head}" if head else None
    assert config["model_type"] == family
    names = list(model.state_dict())
    check_needed(names, config, suffix, "M")
    assert list(odd_weights(names, config)) == []
    # each that is called needed is one of transformers' own, by its name
    needed = [n for n in names if _is_refused_without(n, names, config, suffix)]
    assert len(needed) >= 13
    if head is None or suffix in FAMILIES[family].heads:
        free = set(names).difference(needed)
        assert not [
            n for n in free if "layer.1" in n and family not in ("modernbert", "deberta-v2")
        ]


def _is_refused_without(name: str, names: list[str], config: Any, head: str | None) -> bool:
    try:
        check_needed([other for other in names if other != name], config, head, "M")
    except ModelError:
        return True
    return False


def resolve(folder: Path, **options: Any) -> Any:
    return resolve_model(str(folder), None, "text-classification", LocalStore, params={}, **options)


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.1.attention.self.key.bias",
        "bert.embeddings.LayerNorm.weight",
        "bert.pooler.dense.weight",
        "classifier.bias",
    ],
)
def test_a_model_that_lacks_one_is_refused_on_both_sides(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "m"
    save_model(folder, "bert", "SequenceClassification")
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weight of its own architecture"):
        resolve(folder)
    with pytest.raises(ModelError, match=f"lacks weights of its own architecture.*{name}"):
        TextClassification().load(LoadRequest(str(folder), "cpu", "float32", None, {}))


def test_names_of_2018_and_names_without_the_prefix_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_model(folder, "bert", "SequenceClassification")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(folder / "model.safetensors")
    for new, name in old.items():
        weights = {n.replace(new, name): w for n, w in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve(folder).warnings == ()
    TextClassification().load(LoadRequest(str(folder), "cpu", "float32", None, {}))


def test_a_model_of_code_of_its_own_is_not_judged_by_its_type(tmp_path: Path) -> None:
    from tests.unit.models.model_folder import write_model

    folder = write_model(tmp_path / "m", model_type="bert", auto_map={"AutoModel": "own.Model"})
    assert resolve(folder, trust_remote_code=True).warnings == ()
    with pytest.raises(ModelError, match="of its own architecture"):
        resolve(folder)


def test_weights_that_nothing_runs_are_named() -> None:
    model = architecture("bert", "TokenClassification")
    names = [*model.state_dict(), "linear.weight", "bert.encoder.layer.0.adapter.down.weight"]
    (said,) = odd_weights(names, model.config.to_dict())
    assert "have 2 that its architecture does not have" in said
    assert "bert.encoder.layer.0.adapter.down.weight, linear.weight" in said
    # of other heads nothing is said
    assert not list(
        odd_weights([*model.state_dict(), "cls.predictions.bias"], model.config.to_dict())
    )


LAYER = ("attn.q.weight", "attn.k.weight", "mlp.weight")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([LAYER] * 4, None),
        ([LAYER, LAYER[1:], LAYER, LAYER], "h.1 lacks attn.q.weight"),
        ([LAYER, LAYER[:1], LAYER, LAYER], "h.1 lacks attn.k.weight, …"),
        ([LAYER[1:], *[LAYER] * 3], None),  # the first layer of ModernBERT has no norm
        ([*[LAYER] * 3, LAYER[1:]], None),  # the last ones of Gemma 3n share keys
        ([LAYER, (*LAYER[1:], "mamba.weight"), LAYER, LAYER], None),
        ([LAYER, LAYER[1:], LAYER, LAYER[1:], LAYER], None),  # every second layer
    ],
)  # fmt: skip
def test_a_layer_that_lacks_what_all_others_have_is_a_warning(
    layers: Any, said: str | None
) -> None:
    names = [f"h.{number}.{name}" for number, layer in enumerate(layers) for name in layer]
    found = list(odd_weights(names, {"model_type": "somebody's"}))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
    assert not list(odd_weights([f"vision_model.{name}" for name in names], {}))
