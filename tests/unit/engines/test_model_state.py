"""What a forward leaves behind in a model is found and put back, whatever form it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from workers.engines.packed.model_state import ModelState


class Forgetful(nn.Module):
    """A model with a number, a buffer and a layer that a forward may change."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 4
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.layer = nn.Linear(2, 2)
        self.inner = nn.Sequential(nn.Linear(2, 2))


def _grow(model: Forgetful) -> None:
    model.longest = 9


def _replace_buffer(model: Forgetful) -> None:
    model.register_buffer("table", torch.arange(9.0), persistent=False)


def _write_in_place(model: Forgetful) -> None:
    model.table.mul_(2)


def _replace_layer(model: Forgetful) -> None:
    model.inner[0] = nn.Identity()


def _add(model: Forgetful) -> None:
    model.cached = torch.ones(3)


@pytest.mark.parametrize(
    "change",
    [_grow, _replace_buffer, _write_in_place, _replace_layer, _add],
    ids=lambda c: c.__name__,
)
def test_what_a_forward_changes_is_put_back_each_time(change: Callable[[Any], None]) -> None:
    model = Forgetful()
    layer = model.inner[0]
    state = ModelState(model)
    change(model)
    state.settle()
    state.forget_rest()
    assert state
    for _ in range(2):
        change(model)
        state.put_back()
        assert model.longest == 4
        assert model.table.tolist() == [0.0, 1.0, 2.0, 3.0]
        assert model.inner[0] is layer
        assert not hasattr(model, "cached")


def test_a_model_that_remembers_nothing_costs_nothing() -> None:
    model = Forgetful()
    state = ModelState(model)
    model.layer(torch.ones(1, 2))
    state.settle()
    assert not state


def test_a_part_that_was_loaded_with_an_attention_of_its_own_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of VibeVoice ASR, a part has no other; to set one for all parts raises ValueError."""
    from transformers import DistilBertConfig, DistilBertModel

    from workers.engines.packed.engine import Runner

    sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "vocab_size": 9}
    model = DistilBertModel(DistilBertConfig(**sizes)).eval()
    asked: list[str] = []
    monkeypatch.setattr(model, "set_attn_implementation", asked.append)
    runner = Runner(model, output="tokens", device="cpu", pad_id=0)
    for mode in ("alone", "padded", "packed", "alone"):
        runner.set_mode(mode)  # type: ignore[arg-type]
    assert len(asked) == 2
    assert asked[1] == model.config._attn_implementation


def test_a_layer_laid_out_anew_after_the_probes_is_kept() -> None:
    model = Forgetful()
    state = ModelState(model)
    _replace_layer(model)
    state.settle()
    laid_out = model.inner[0] = nn.Linear(2, 2)
    state.forget_rest()
    _replace_layer(model)
    state.put_back()
    assert model.inner[0] is laid_out
