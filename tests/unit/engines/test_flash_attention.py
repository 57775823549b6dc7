"""How flash attention is asked, by version of torch; that it runs is for a machine with a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen

from workers.engines.packed import attention

Asked = dict[str, Any]


def _of_2_11(asked: Asked) -> Callable[..., Any]:
    def varlen_attn(
        q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *,
        scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
    ) -> Any:  # fmt: skip
        asked.update(heads=(q.shape[1], k.shape[1]), window=window_size)
        return q

    return varlen_attn


def _of_2_13(asked: Asked) -> Callable[..., Any]:
    def varlen_attn(*given: Any, enable_gqa: bool = False, **more: Any) -> Any:
        asked.update(gqa=enable_gqa, window=more["window_size"])
        return given[0]

    return varlen_attn


@pytest.mark.parametrize(
    ("function", "heads", "expected"),
    [
        (_of_2_11, 2, {"heads": (4, 2), "window": (-1, 0)}),
        (_of_2_11, 4, {"heads": (4, 4), "window": (-1, 0)}),
        (_of_2_13, 2, {"gqa": True, "window": (-1, 0)}),
        (_of_2_13, 4, {"gqa": False, "window": (-1, 0)}),
    ],
)
def test_shared_key_heads_are_named_if_torch_needs_it(
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[[Asked], Any],
    heads: int,
    expected: Asked,
) -> None:
    asked: Asked = {}
    monkeypatch.setattr(varlen, "varlen_attn", function(asked))
    attention._takes_gqa.cache_clear()
    q, k = torch.zeros(3, 4, 8), torch.zeros(3, heads, 8)
    packing = attention.Packing(((0, 1, 3),), torch.tensor([0, 3], dtype=torch.int32), 3)
    try:
        assert attention._attend_varlen(q, k, k, packing, None, True, None) is q
    finally:
        attention._takes_gqa.cache_clear()
    assert asked == expected


def test_one_query_a_row_is_a_row_of_one_token_to_flash_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(varlen, "varlen_attn", lambda *given: asked.extend(given[3:]))
    monkeypatch.setattr(attention, "kernels", lambda: None)
    q, k = torch.zeros(2, 4, 8), torch.zeros(5, 4, 8)
    cumulative = torch.tensor([0, 3, 5], dtype=torch.int32)
    attention.attend_one(q, k, k, attention.Packing((), cumulative, 3))
    own, theirs, *longest = asked
    assert (own.tolist(), own.dtype) == ([0, 1, 2], torch.int32)
    assert theirs is cumulative
    assert longest == [1, 3]
