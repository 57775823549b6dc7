"""LoRA: only adapters and head learn, a resume is exact, and what is left is a model like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producers.commands.training.options import lora_of
from schemas.errors import ConfigError, ModelError, Stopped
from schemas.records.training import Lora
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import MadeHost, made_rows, made_spec
from workers.training.loop import Trained, train
from workers.training.model.lora import add_adapters
from workers.training.model.make import load_base, save_model


def run(folder: Path, made: MadeHost, lora: Lora) -> tuple[Trained, Any, Any]:
    from transformers import set_seed

    spec = made_spec(lora=lora, epochs=1, learning_rate=1e-2)
    set_seed(spec.seed)
    model, tokenizer = load_base(folder, spec)
    rows = made_rows(tokenizer, spec, 60)
    return train(model, rows, (0, 0), spec, made.host()), model, tokenizer


def test_a_resumed_run_has_the_same_weights_and_the_version_is_merged(
    tiny: TinyModels, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    folder, lora = Path(tiny("bert", "MaskedLM")), Lora(rank=4, alpha=8)
    before = {n: p.clone() for n, p in load_base(folder, made_spec())[0].named_parameters()}
    whole, model, tokenizer = run(folder, MadeHost(tmp_path / "whole", "a" * 16), lora)
    with pytest.raises(Stopped):
        run(folder, MadeHost(tmp_path / "cut", "b" * 16, stop_after=2), lora)
    resumed, same, _ = run(folder, MadeHost(tmp_path / "cut", "c" * 16), lora)
    assert resumed.resumed_from == 2

    after = dict(model.named_parameters())
    assert after.keys() == before.keys()  # no adapter is left
    for name, parameter in same.named_parameters():
        assert torch.equal(parameter, after[name])
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert "bert.encoder.layer.0.attention.self.query.weight" in changed
    assert "classifier.weight" in changed
    assert not any("embeddings" in n or "LayerNorm" in n or "query.bias" in n for n in changed)
    assert whole.learned < sum(p.numel() for p in after.values())

    save_model(model, tokenizer, tmp_path / "model")
    assert not list((tmp_path / "model").glob("adapter*"))
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    ids = torch.tensor([[2, 10, 11, 3]])
    with torch.inference_mode():
        assert torch.equal(again(ids).logits, model.eval()(ids).logits)


def test_targets_are_ends_of_names(tiny: TinyModels) -> None:
    folder = Path(tiny("bert", "MaskedLM"))
    model, _ = load_base(folder, made_spec())
    add_adapters(model, Lora(rank=2, targets=("query", "attention.output.dense")))
    names = {n.split(".lora_")[0] for n, p in model.named_parameters() if ".lora_" in n}
    assert {n.split("layer.", 1)[1].split(".", 1)[1] for n in names} == {
        "attention.self.query", "attention.output.dense",
    }  # fmt: skip
    with pytest.raises(ModelError, match="no linear layer is called nothing; there are dense"):
        add_adapters(load_base(folder, made_spec())[0], Lora(targets=("query", "nothing")))


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "deberta-v2"])
def test_other_families_learn_too(tiny: TinyModels, tmp_path: Path, kind: str) -> None:
    found, _, _ = run(
        Path(tiny(kind, "MaskedLM")), MadeHost(tmp_path, "a" * 16), Lora(rank=2, alpha=4)
    )
    assert np.isfinite(found.logits).all()


def test_what_the_command_line_asks_for() -> None:
    assert lora_of(False, None, None, None) is None
    assert lora_of(True, 8, None, None) == Lora(rank=8, alpha=16)
    assert lora_of(True, None, 4, "query, value") == Lora(alpha=4, targets=("query", "value"))
    with pytest.raises(ConfigError, match="--lora-rank is for --lora"):
        lora_of(False, 8, None, None)
    with pytest.raises(ConfigError, match="--lora-rank"):
        lora_of(True, 0, None, None)
    with pytest.raises(ConfigError, match="--lora-targets"):
        lora_of(True, None, None, "a b")
