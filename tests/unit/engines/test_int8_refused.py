"""A CPU that does not compute in int8 is answered so, and the model stays as it was."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import ModelError
from workers.engines.packed.int8 import quantize


@pytest.mark.parametrize("flags", [{"avx2", "avx512f"}, {"asimd", "i8mm"}, set()])
def test_int8_is_refused_before_a_layer_is_replaced(flags: set[str]) -> None:
    import torch

    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 64)])

    def run() -> Any:
        raise AssertionError("the model ran")

    with pytest.raises(ModelError, match=r"VNNI.*AVX2.*It serves float32"):
        quantize(model, run, frozenset(flags))
    assert type(model.blocks[0]) is torch.nn.Linear
