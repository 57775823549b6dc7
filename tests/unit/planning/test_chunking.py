"""Planning covers every row once, in order, and keeps to its target."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.formats.base import Unit
from producers.planning.chunking import (
    MAX_BYTES,
    MAX_PIECES,
    MAX_ROWS,
    MIN_ROWS,
    FileRows,
    Target,
    cut,
    plan,
    slice_file,
    target_chunk,
)
from schemas.records.chunk import InputFile
from tests.units import row_groups

groups = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 400_000)), max_size=12).map(
    lambda sizes: row_groups(*sizes)
)
targets = st.builds(
    Target, st.integers(1, 3000), st.integers(1, 200_000), st.sampled_from([0.0, 0.25])
)


def a_file(number: int) -> InputFile:
    return InputFile(f"/data/{number}.parquet", 1, "e")


@example(row_groups((1, 0), (0, 0), (0, 2)), Target(1, 1, 0.0))
@given(groups, targets)
def test_slices_cover_every_row_once_in_order(units: list[Unit], target: Target) -> None:
    ends = [0]
    for group in units:
        ends.append(ends[-1] + group.rows)
    row = 0
    for part in slice_file(units, target):
        assert part.first_row == row
        assert part.rows > 0
        row += part.rows
        assert 0 <= part.start < part.stop <= len(units)
        assert ends[part.start] <= part.first_row < ends[part.start + 1]
        assert part.skip == part.first_row - ends[part.start]
        assert ends[part.stop - 1] < row <= ends[part.stop]
    assert row == ends[-1]


@given(groups, targets)
def test_no_slice_is_above_its_target_but_where_a_row_is(units: list[Unit], target: Target) -> None:
    most = 1 + target.slack
    for part in slice_file(units, target):
        assert part.rows <= most * target.rows + 1
        assert part.bytes <= most * target.bytes * 2 + 1 or part.rows == 1


@given(groups, targets)
def test_two_neighbours_that_follow_row_groups_are_together_above_the_target(
    units: list[Unit], target: Target
) -> None:
    parts = list(slice_file(units, target))
    for a, b in pairwise(parts):
        whole = a.rows == sum(g.rows for g in units[a.start : a.stop])
        if whole and b.start >= a.stop:  # neither was split
            group = units[b.start]
            rows, size = a.rows + max(b.rows, group.rows), a.bytes + max(b.bytes, group.text_bytes)
            assert rows > target.rows or size > target.bytes


@given(st.lists(groups, max_size=5), targets, st.none() | st.integers(0, 20_000))
def test_a_plan_numbers_its_chunks_and_cuts_at_the_limit(
    corpus: list[list[Unit]], target: Target, limit: int | None
) -> None:
    files = [FileRows(a_file(i), g) for i, g in enumerate(corpus)]
    chunks = list(plan(files, target, limit))
    total = sum(g.rows for f in corpus for g in f)
    assert sum(c.rows for c in chunks) == (total if limit is None else min(limit, total))
    assert [c.number for c in chunks] == list(range(len(chunks)))
    row = 0
    for chunk in chunks:
        assert chunk.job_row == row
        row += chunk.rows
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    for a, b in pairwise(pieces):
        assert b.first_row == (a.first_row + a.rows if a.file == b.file else 0)


@given(st.lists(groups, max_size=5), targets, st.integers(1, 5))
def test_a_shorter_tail_has_the_same_rows(
    corpus: list[list[Unit]], target: Target, tail: int
) -> None:
    files = [FileRows(a_file(i), g) for i, g in enumerate(corpus)]

    def rows(target: Target) -> np.ndarray:
        """[rows, 4]: of each row its file, where to begin, how many rows to skip there, its number."""
        pieces = [
            (int(Path(piece.file.uri).stem), piece.start, piece.skip, piece.first_row, piece.rows)
            for chunk in plan(files, target)
            for piece in chunk.pieces
        ]
        table = np.array(pieces, np.int64).reshape(-1, 5)
        counts = table[:, 4]
        at = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return np.repeat(table[:, :4], counts, axis=0) + np.outer(at, (0, 0, 1, 1))

    assert np.array_equal(rows(target._replace(tail=tail)), rows(target))


@pytest.mark.parametrize(
    ("rows", "workers", "parts"),
    [(20_000, 2, 3), (20_000, 1, 3), (2_000, 2, 2), (500, 1, 1)],
)
def test_the_last_chunk_of_each_worker_is_cut_in_three(rows: int, workers: int, parts: int) -> None:
    target = target_chunk(rows, rows * 100, workers=workers, tokens_per_s=20_000)
    files = [FileRows(a_file(1), row_groups((rows, rows * 100)))]
    found = [c.rows for c in plan(files, target)]
    even = [c.rows for c in plan(files, target._replace(tail=0))]
    tail = found[len(even) - workers :]
    assert found[: len(even) - workers] == even[:-workers]
    assert len(tail) == parts * workers
    assert max(tail) <= max(even) / parts + 1


@given(st.lists(groups, max_size=20), targets)
def test_only_whole_small_files_share_a_chunk(corpus: list[list[Unit]], target: Target) -> None:
    files = [FileRows(a_file(i), g) for i, g in enumerate(corpus)]
    whole = {f.file: sum(unit.rows for unit in f.units) for f in files}
    for chunk in plan(files, target):
        if len(chunk.pieces) > 1:
            assert chunk.rows <= target.rows
            assert chunk.bytes <= target.bytes
            assert all(piece.rows == whole[piece.file] for piece in chunk.pieces)


def test_fifteen_hundred_files_of_three_rows_share_two_dozen_chunks() -> None:
    files = [FileRows(a_file(i), row_groups((3, 300))) for i in range(1_500)]
    chunks = list(plan(files, target_chunk(4_500, 450_000, workers=2, tokens_per_s=10_000)))
    assert len(chunks) == 24
    assert {len(chunk.pieces) for chunk in chunks} == {MAX_PIECES, 1_500 % MAX_PIECES}


@pytest.mark.parametrize(
    "other",
    [
        InputFile("/data/b.jsonl", 1, "e", format="jsonl"),
        InputFile("s3://bucket/b.parquet", 1, "e"),
        InputFile("/data/day=1/b.parquet", 1, "e", (("day", "1"),)),
    ],
    ids=["format", "store", "partitions"],
)
def test_files_that_are_read_in_another_way_share_no_chunk(other: InputFile) -> None:
    files = [FileRows(file, row_groups((3, 300))) for file in (a_file(1), other)]
    assert len(list(plan(files, Target(100, 10**6)))) == 2


def test_one_giant_row_group_is_split_evenly() -> None:
    parts = list(slice_file(row_groups((10_000, 1)), Target(3000, 10**9)))
    assert [p.rows for p in parts] == [3333, 3333, 3334]
    assert {(p.start, p.stop) for p in parts} == {(0, 1)}


def test_a_row_group_a_quarter_above_the_target_is_left_whole() -> None:
    parts = list(slice_file(row_groups((1250, 1), (1250, 1)), Target(1000, 10**9)))
    assert [(p.start, p.rows) for p in parts] == [(0, 1250), (1, 1250)]


def test_small_row_groups_are_put_together() -> None:
    parts = list(slice_file(row_groups((100, 10)) * 25, Target(1000, 10**9)))
    assert [p.rows for p in parts] == [1200, 1200, 100]


def test_what_a_person_set_is_never_exceeded() -> None:
    target = target_chunk(1000, 1000, workers=1, tokens_per_s=1, chunk_rows=100)
    assert [p.rows for p in slice_file(row_groups((1000, 1000)), target)] == [100] * 10
    assert max(p.rows for p in slice_file(row_groups((60, 6)) * 9, target)) == 60


def test_a_cut_group_keeps_its_share_of_bytes() -> None:
    assert cut(row_groups((10, 100), (10, 100)), 15) == row_groups((10, 100), (5, 50))


@pytest.mark.parametrize(
    ("rows", "mean", "workers", "speed", "expected"),
    [
        (20_000, 100, 2, 20_000, 1250),  # small: eight chunks a worker
        (100, 100, 8, 20_000, MIN_ROWS),  # tiny: no chunk under 256 rows
        (10**9, 100, 8, 10_000, 12_000),  # large: 30 s of work
        (10**9, 10, 8, 10**7, MAX_ROWS),  # fast: capped
    ],
)
def test_a_chunk_is_some_30_s_of_work_within_bounds(
    rows: int, mean: int, workers: int, speed: float, expected: int
) -> None:
    target = target_chunk(rows, rows * mean, workers=workers, tokens_per_s=speed)
    assert target.rows == expected
    assert target.bytes <= MAX_BYTES
