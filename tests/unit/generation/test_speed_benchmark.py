"""The benchmark of generation: lengths that a prompt asks for, and the same work for all."""

from __future__ import annotations

from pathlib import Path

from benchmarks.generation.speed import (
    FIRST,
    LENGTHS,
    SHARED_NEW,
    by_engine,
    by_generate,
    engine_of,
    lengths,
    prompts,
    share,
    with_instructions,
    without_sharing,
)


def test_lengths_are_skewed_as_the_benchmark_says() -> None:
    drawn = lengths(2_000, 5)
    assert drawn.min() >= 2
    assert drawn.max() < LENGTHS
    assert 0.25 < share(prompts(960, 5)) < 0.45


def test_all_contestants_write_as_many_tokens_as_the_prompts_ask_for(tmp_path: Path) -> None:
    rows = prompts(2, 1)
    wanted = {row.row: int(row.ids[0]) - FIRST for row in rows}
    engine = engine_of(tmp_path, "llama", 1)
    assert by_engine(engine, rows)() == by_generate(engine, rows, 2, 1)() == wanted


def test_prompts_with_instructions_ask_for_the_same_length(tmp_path: Path) -> None:
    rows = with_instructions(2, 1)
    engine = engine_of(tmp_path, "llama", 1)
    assert engine._shared is not None
    wanted = dict.fromkeys(range(2), SHARED_NEW)
    assert by_engine(engine, rows)() == without_sharing(engine, rows)() == wanted
    assert engine._shared.covers(rows[0])
