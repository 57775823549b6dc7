"""Rows drawn from all over a corpus, the same ones each time."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.formats.base import Span
from headrace.formats.opener import InputOpener
from headrace.storage.open import open_store
from producers.planning import sample
from producers.planning.chunking import FileRows
from producers.planning.sample import (
    SampledUnit,
    choose_rows,
    read_rows,
)
from schemas.errors import InputUnreadable
from schemas.records.chunk import InputFile
from tests.unit.small_job import fake_settings
from tests.units import of_rows


def corpus(*files: list[int]) -> list[FileRows]:
    return [
        FileRows(InputFile(f"file-{i}", 1, "e", ()), of_rows(groups))
        for i, groups in enumerate(files)
    ]


def draw(
    files: list[FileRows], wanted: int, seed: str = "s", limit: int | None = None
) -> list[SampledUnit]:
    total = sum(g.rows for f in files for g in f.units)
    return list(choose_rows(files, min(total, limit or total), wanted, seed, limit))


def test_every_part_of_a_corpus_gives_its_share() -> None:
    places = draw(corpus([1_000] * 10, [10_000], [1_000] * 10), 300)
    rows = {
        name: sum(len(p.rows) for p in places if p.file.uri == name)
        for name in ("file-0", "file-1")
    }
    assert rows["file-0"] == pytest.approx(100, abs=25)
    assert rows["file-1"] == pytest.approx(100, abs=25)
    middle = next(p for p in places if p.file.uri == "file-1")
    assert max(middle.rows) > 8_000
    assert min(middle.rows) < 2_000


def test_one_large_row_group_is_not_sampled_at_its_head() -> None:
    (place,) = draw(corpus([100_000]), 1_000)
    assert len(place.rows) == 1_000
    assert sum(place.rows) / 1_000 == pytest.approx(50_000, rel=0.1)


def test_no_more_of_a_giant_is_read_than_is_bearable() -> None:
    (place,) = draw(corpus([10_000_000]), 1_000)
    assert max(place.rows) < sample.READ_ROWS


def test_files_of_one_row_give_one_row_each() -> None:
    assert sum(len(p.rows) for p in draw(corpus(*[[1]] * 2_000), 100)) == 100


def test_the_seed_decides() -> None:
    files = corpus([5_000] * 4)
    assert draw(files, 200) == draw(files, 200)
    assert draw(files, 200) != draw(files, 200, "another")


@given(
    st.lists(st.lists(st.integers(0, 60), max_size=6), min_size=1, max_size=6),
    st.integers(1, 80),
    st.none() | st.integers(1, 100),
)
def test_rows_are_distinct_within_their_group_and_within_the_limit(
    groups: list[list[int]], wanted: int, limit: int | None
) -> None:
    files = corpus(*groups)
    total = sum(map(sum, groups))
    places = draw(files, wanted, limit=limit)
    before = 0
    first = {}
    for file in files:
        for number, group in enumerate(file.units):
            first[file.file.uri, number] = before
            before += group.rows
    drawn = [first[p.file.uri, p.span.start] + row for p in places for row in p.rows]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= row < min(total, limit or total) for row in drawn)
    assert drawn == sorted(drawn)
    assert bool(drawn) == bool(total)
    assert len(drawn) <= wanted + len(places)


opened = InputOpener(partial(open_store, settings=fake_settings()))


def place(path: Path, unit: int, rows: tuple[int, ...]) -> SampledUnit:
    file = InputFile(str(path), path.stat().st_size, "e")
    return SampledUnit(file, Span(unit, unit + 1, 0, 0, rows[-1] + 1), rows)


def test_rows_are_read_where_they_were_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"t{i}" for i in range(10_000)]
    table = pa.table({"text": texts, "other": [t.upper() for t in texts]})
    pq.write_table(table, path, row_group_size=6_000)
    places = [
        place(path, 0, (0, 4_095, 4_096, 5_999)),
        place(path, 1, (1,)),
    ]
    found = list(read_rows(places, ["text", "other"], opened))
    assert found == [(f"t{i}", f"T{i}") for i in (0, 4_095, 4_096, 5_999, 6_001)]


def test_rows_without_a_valid_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array([b"good", None, b"\xff\xfe", b"x" * 60_000], pa.binary())
    pq.write_table(pa.table({"text": texts}), path)
    places = [place(path, 0, (0, 1, 2, 3))]
    found = list(read_rows(places, ["text"], opened))
    assert [row[0][:4] for row in found] == ["good", "xxxx"]
    assert len(found[1][0]) == sample.LONGEST_TEXT


def test_a_file_that_is_not_what_it_was_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputUnreadable, match=r"a\.parquet"):
        list(read_rows([place(path, 0, (0,))], ["text"], opened))
