"""The comparison with `generate` in its short form: a writer that has hardly learned, six notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.generation.equality import alone, differences, loaded
from producers.demo.diary import notes
from workers.demo.writer import train_writer


@pytest.mark.parametrize("beams", [1, 3])
def test_a_writers_texts_are_those_of_generate_and_another_is_found(
    beams: int, tmp_path: Path
) -> None:
    given = list(notes(3, 6))
    pairs = [(note.text, note.entry) for note in given]
    task = loaded(train_writer(pairs, tmp_path / "model", steps=2), beams, most=8)
    texts = [note.text for note in given]
    rows = task.encode(texts)
    wanted = alone(task, rows, beams)
    for at_once in (1, 4, 64):
        assert differences(task, texts, rows, wanted, at_once) == []
    (found,) = differences(task, texts, rows, [*wanted[:5], "2024-01-01 Anna lunch"], 64)
    assert (found.row, found.found) == (5, wanted[5])
    assert found.gap > 0
