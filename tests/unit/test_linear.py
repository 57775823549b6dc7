"""Weights laid out for the CPU give the same answers, and the old ones are let go."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from workers.engine.cpu import cpu_flags, multiplies_bf16
from workers.engine.linear import lay_out


@pytest.fixture
def bert() -> Any:
    import transformers

    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=50, num_hidden_layers=2, **size)
    return transformers.BertModel(config).eval()


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_answers_stay_for_any_number_of_tokens(bert: Any, tokens: int) -> None:
    import torch

    ids = torch.arange(tokens).remainder(50).unsqueeze(0)
    with torch.inference_mode():
        before = bert(ids).last_hidden_state
        assert lay_out(bert) == 2 * 6 + 1  # six in a layer, and the pooler
        after = bert(ids).last_hidden_state
    assert float((after - before).abs().max()) < 1e-5


def test_the_activation_is_inside_the_product(bert: Any) -> None:
    import torch

    lay_out(bert)
    assert isinstance(bert.encoder.layer[0].intermediate.intermediate_act_fn, torch.nn.Identity)


def test_old_weights_are_freed(bert: Any) -> None:
    old = weakref.ref(bert.encoder.layer[0].intermediate.dense)
    lay_out(bert)
    gc.collect()
    assert old() is None


def test_weights_that_two_modules_share_stay(bert: Any) -> None:
    query = bert.encoder.layer[0].attention.self.query
    bert.encoder.layer[1].attention.self.query.weight = query.weight
    assert lay_out(bert) == 2 * 6 + 1 - 2


def test_half_precision_is_laid_out_where_the_cpu_multiplies_it(bert: Any) -> None:
    import torch

    ids = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        exact = bert(ids).last_hidden_state
        fast = multiplies_bf16(cpu_flags())
        assert lay_out(bert.to(torch.bfloat16)) == (2 * 6 + 1 if fast else 0)
        after = bert(ids).last_hidden_state.float()
    assert float((after - exact).abs().max()) < 0.1


def test_float16_stays(bert: Any) -> None:
    import torch

    assert lay_out(bert.to(torch.float16)) == 0
