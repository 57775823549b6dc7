"""Twenty families of transformers give in any batch what each row gives alone; `make families` has all.

Those with blocks, windows, chunks, memory of earlier rows, composite configurations and tokenizers
written in Python are among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.families.compare import TOLERANCE, Outcome, compare
from benchmarks.families.page import page
from benchmarks.families.texts import WORDS

TASK = "text-classification"
# short, long, short: each row is also run after longer and after shorter ones
ROWS = [" ".join(WORDS[i % len(WORDS)] for i in range(n)) for n in (3, 400, 1, 40, 3, 90)]

FAMILIES = [
    "bert", "roberta", "distilbert", "modernbert", "llama", "qwen2", "t5", "xlnet", "gpt2", "fnet",
    "big_bird", "reformer", "longformer", "canine", "gemma3", "qwen3_5", "biogpt", "xlm",
    "deberta-v2", "albert",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_has_one_answer_in_any_batch(family: str) -> None:
    found = compare(family, TASK, ROWS)
    assert not found.not_made
    assert not found.refused
    assert found.difference <= TOLERANCE, f"{found.way}: {found.difference:.2g}"


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "rope_type": "longrope",
            "factor": 16.0,
            "original_max_position_embeddings": 32,
            "short_factor": [1.0] * 4,
            "long_factor": [8.0] * 4,
        },
    ],
    ids=lambda rope: str(rope["rope_type"]),
)
def test_positions_that_remember_the_longest_row_are_reset(rope: dict[str, Any]) -> None:
    found = compare("llama", TASK, ROWS, rope_parameters={"rope_theta": 1e4, **rope})
    assert (found.not_made, found.refused, found.way) == ("", "", "equal")
    assert found.difference <= TOLERANCE


def test_a_family_that_reads_more_than_tokens_is_refused_with_its_inputs() -> None:
    assert "input_pronunciation_ids" in compare("roc_bert", TASK, ROWS[:1]).refused


def test_a_run_of_one_task_keeps_the_tables_of_the_others() -> None:
    both = [Outcome("bert", "a", way="packed"), Outcome("bert", "b", way="padded")]
    before = page(both)
    assert page(both[:1], before) == before
    worse = page([Outcome("bert", "b", refused="no")], before)
    assert "| bert | stand-in | packed" in worse
    assert "| bert | stand-in |  |  | no |" in worse


def test_a_model_that_draws_by_chance_is_refused() -> None:
    """Reformer hashes its tokens into buckets, without a seed of its own by another draw each time."""
    words = compare("reformer", TASK, ROWS, hash_seed=None).refused
    assert "gives the same row other numbers each time" in words
