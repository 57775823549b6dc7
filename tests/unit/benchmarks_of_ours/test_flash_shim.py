"""The stand-in for flash-attn, as far as a CPU goes: that it is found, and what it asks of torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import Distribution
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.side_by_side.peers import STAND_IN


def _stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "flash_stand_in", STAND_IN / "flash_attn" / "__init__.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of torch's operator, by the names of its own schema."""
    names = [a.name for a in torch.ops.aten._flash_attention_forward.default._schema.arguments]
    calls: list[Any] = []

    def operator(*given: Any, **named: Any) -> tuple[Any, None]:
        assert set(named) <= set(names)
        calls.append(dict(zip(names, given, strict=False)) | named)
        return given[0], None

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", operator)
    return calls


def test_rows_without_padding_are_separated_by_their_limits(asked: list[Any]) -> None:
    q, k = torch.zeros(5, 4, 8), torch.zeros(5, 2, 8)
    limits = torch.tensor([0, 2, 5])
    found = _stand_in().flash_attn_varlen_func(
        q, k, k, cu_seqlens_q=limits, cu_seqlens_k=limits, max_seqlen_q=torch.tensor(3),
        max_seqlen_k=3, softmax_scale=0.5, causal=True,
    )  # fmt: skip
    (call,) = asked
    assert found is q
    assert call["cum_seq_q"].dtype == torch.int32
    assert call["cum_seq_k"].tolist() == [0, 2, 5]
    assert (call["max_q"], call["max_k"], call["scale"], call["is_causal"]) == (3, 3, 0.5, True)
    assert (call["window_size_left"], call["window_size_right"]) == (-1, 0)


def test_rows_of_one_length_need_no_limits(asked: list[Any]) -> None:
    q = torch.zeros(2, 8, 3, 4).transpose(2, 3)  # the last dimension must be next to itself
    _stand_in().flash_attn_func(q, q, q, window_size=(4, 4))
    (call,) = asked
    assert call["query"].stride(-1) == 1
    assert call["cum_seq_q"] is None
    assert (call["max_q"], call["is_causal"], call["dropout_p"]) == (8, False, 0.0)
    assert (call["window_size_left"], call["window_size_right"]) == (4, 4)


def test_what_it_cannot_do_it_says(asked: list[Any]) -> None:
    with pytest.raises(NotImplementedError, match="no dropout"):
        _stand_in().flash_attn_func(*[torch.zeros(1, 2, 3, 8)] * 3, dropout_p=0.1)
    assert asked == []


def test_its_metadata_name_it_as_transformers_looks_for_it() -> None:
    (found,) = Distribution.discover(path=[str(STAND_IN)])
    assert found.metadata["Name"] == "flash-attn"
    assert found.metadata["Summary"].startswith("Not flash-attn")
    assert (found.read_text("top_level.txt") or "").split() == ["flash_attn"]
    assert found.version == _stand_in().__version__


IN_TRANSFORMERS = """
import torch
torch.cuda.is_available = lambda: True
torch.cuda.get_device_capability = lambda *device: (9, 0)

def each_alone(q, k, v, limits, _, *rest, scale, **more):
    out = torch.empty_like(q)
    for a, b in zip(limits.tolist(), limits.tolist()[1:]):
        row = (x[a:b].transpose(0, 1)[None] for x in (q, k, v))
        found = torch.nn.functional.scaled_dot_product_attention(*row, scale=scale)
        out[a:b] = found[0].transpose(0, 1)
    return out, None

torch.ops.aten._flash_attention_forward = each_alone
from transformers import BertConfig, BertModel

def model(attention):
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=64)
    options = {"attn_implementation": attention, "dtype": torch.bfloat16}
    return BertModel._from_config(config, **options).eval()

flash, plain = model("flash_attention_2"), model("sdpa")
plain.load_state_dict(flash.state_dict())
ids = torch.randint(1, 50, (2, 7))
mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4])
with torch.inference_mode():
    one, two = (m(ids, attention_mask=mask).last_hidden_state[mask.bool()] for m in (flash, plain))
assert flash.config._attn_implementation == "flash_attention_2"
assert (one - two).abs().max() < 0.05, (one - two).abs().max()
assert two.abs().max() > 1
print("same")
"""


def test_transformers_takes_it_for_flash_attention_and_answers_stay_the_same() -> None:
    code = f"import sys; sys.path.append({str(STAND_IN)!r})\n{IN_TRANSFORMERS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert done.stdout == "same\n", done.stderr
