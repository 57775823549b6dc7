"""The small model that writes is saved as a folder that any task can load."""

from __future__ import annotations

from pathlib import Path

from headrace.tasks.contract import LoadRequest
from producers.demo.diary import notes, write_notes
from workers.demo.writer import pairs_in, train_writer
from workers.tasks.generation import Text2TextGeneration


def test_a_writer_is_saved_whole_and_replaces_what_was_there(tmp_path: Path) -> None:
    write_notes(tmp_path / "notes.parquet", 2, 200)
    pairs = pairs_in(tmp_path / "notes.parquet", "text", "entry")
    assert pairs[0] == (next(notes(2, 1)).text, next(notes(2, 1)).entry)
    (tmp_path / "model").mkdir()
    said: list[str] = []
    folder = train_writer(pairs, tmp_path / "model", steps=2, say=said.append)
    assert said[-1].startswith("step 2 of 2, loss ")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["model", "notes.parquet"]
    task = Text2TextGeneration()
    task.load(
        LoadRequest(str(folder), "cpu", "float32", None, {"max_new_tokens": 3},
                    engine="transformers")
    )  # fmt: skip
    (answer,) = task.forward(task.encode([pairs[0][0]]))
    assert 1 <= answer.n_generated <= 3
