"""Notes that a model can learn to write diary entries from, and how its entries are counted."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from producers.demo.diary import MONTHS, notes, write_notes
from producers.demo.score import equal_texts


def test_the_same_seed_gives_the_same_notes_and_a_longer_corpus_begins_with_them() -> None:
    assert list(notes(5, 300)) == list(islice(notes(5, 900), 300))
    assert len({n.text for n in notes(1, 500)} & {n.text for n in notes(2, 500)}) < 20


def test_an_entry_says_what_its_note_says() -> None:
    for note in notes(3, 500):
        head, _, things = note.entry.partition(": ")
        day, name, matter = head.split(" ")
        year, month, _ = day.split("-")
        for word in (year, MONTHS[int(month) - 1], name, matter, *filter(None, things.split(", "))):
            assert word in note.text
        assert things.split(", ") == sorted(things.split(", "))


def test_answers_have_many_lengths() -> None:
    words = [len(note.entry.split()) for note in notes(1, 500)]
    assert min(words) == 3
    assert max(words) == 12
    assert 0.3 < sum(words) / len(words) / max(words) < 0.6


def test_texts_that_are_equal_are_counted(tmp_path: Path) -> None:
    write_notes(tmp_path / "new" / "notes.parquet", 1, 30)
    assert pq.ParquetFile(tmp_path / "new" / "notes.parquet").metadata.num_rows == 30
    (tmp_path / "data").mkdir()
    rows = {"generated_text": ["a", "b", None], "entry": ["a", "c", "d"]}
    pq.write_table(pa.table(rows), tmp_path / "data" / "part-00000.parquet")
    assert equal_texts(tmp_path, "entry") == (1, 3)
