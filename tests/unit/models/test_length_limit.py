"""The limit of tokens a row is read from where the model states it, and never made up."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.tasks.length_limit import stated_limit


@pytest.mark.parametrize(
    ("config", "tokens", "name"),
    [
        ({"max_position_embeddings": 512}, 512, "max_position_embeddings"),
        ({"max_seq_len": 2048}, 2048, "max_seq_len"),  # mpt
        ({"seq_length": 4096}, 4096, "seq_length"),  # bloom
        ({"n_positions": 512, "d_model": 64}, 512, "n_positions"),  # T5
        ({"n_ctx": 256}, 256, "n_ctx"),
        ({"text_config": {"max_position_embeddings": 131072}}, 131072, "max_position_embeddings"),
        ({"max_position_embeddings": 64.0}, 64, "max_position_embeddings"),
    ],
)
def test_families_state_it_under_names_of_their_own(
    config: dict[str, Any], tokens: int, name: str
) -> None:
    found = stated_limit(config, {}, {})
    assert found is not None
    assert (found.tokens, found.said_by) == (tokens, f"{name} in config.json")


@pytest.mark.parametrize(
    "config",
    [{}, {"max_position_embeddings": None}, {"max_position_embeddings": -1}, {"n_ctx": True}],
)
def test_none_is_made_up(config: dict[str, Any]) -> None:
    assert stated_limit(config, {"model_max_length": int(1e30)}, {}) is None


def test_the_smallest_counts_and_names_its_source() -> None:
    config = {"max_position_embeddings": 512}
    found = stated_limit(config, {"model_max_length": 256.0}, {"max_seq_length": 128})
    assert found is not None
    assert (found.tokens, found.said_by) == (128, "max_seq_length in sentence_bert_config.json")
    found = stated_limit(config, {"model_max_length": 256}, {})
    assert found is not None
    assert found.said_by == "model_max_length in tokenizer_config.json"


def test_a_position_table_smaller_than_the_file_says_counts() -> None:
    found = stated_limit({"max_position_embeddings": 514}, {}, {}, positions=512)
    assert found is not None
    assert found.tokens == 512
