"""How many tokens the caches may have, from the memory that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.generation.peaked import peaked
from workers.engines.generating.memory import budget_tokens, bytes_per_token, free_bytes


def test_a_token_has_keys_and_values_in_each_layer_of_the_decoder() -> None:
    assert bytes_per_token(peaked("llama")) == 2 * 2 * 2 * 8 * 4  # 2 layers, 2 heads of 8, float32
    assert bytes_per_token(peaked("bart")) == 2 * 1 * 2 * 16 * 4
    assert bytes_per_token(peaked("t5")) == 2 * 1 * 2 * 16 * 4


@pytest.mark.parametrize("limit", ["max", "900000", "not there"])
def test_a_limit_of_the_control_group_counts(limit: str, tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("300000\n")
    if limit != "not there":
        (tmp_path / "memory.max").write_text(limit + "\n")
    found = free_bytes(10_000, tmp_path)
    assert found == 600_000 if limit == "900000" else found > 600_000
    assert budget_tokens(peaked("llama"), "cpu", 1) >= 1
