"""Ranks within groups: of rows in any part, in any order, or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.storage.local import LocalStore
from headrace.tracing.job_trace import JobTrace
from producers.inspection.ranks import Ranked, ranks_of, write_ranks
from schemas.errors import ColumnError, ConfigError
from schemas.names import output_layout
from schemas.records.part_schema import ERROR, OK, STATUS
from tests.unit.fake_output import START_S, Hands, make_job

Row = tuple[Any, float | None]


def output_of(
    folder: Path, parts: Sequence[Sequence[Row]], task: str = "text-ranking"
) -> LocalStore:
    """A job whose parts hold these groups and scores; no score is an error row."""
    store = LocalStore(folder)
    rows = sum(map(len, parts))
    job = make_job(
        str(folder),
        len(parts),
        rows,
        task,
        JobTrace("p", queue="q", clock=Hands(START_S).clock),
        "c",
    )
    store.create(output_layout.JOB, job.model_dump_json().encode())
    at = 0
    for number, part in enumerate(parts):
        groups, scores = zip(*part, strict=True)
        status = pa.array([ERROR if s is None else OK for s in scores]).cast(STATUS)
        table = pa.table(
            {
                "id": range(at, at + len(part)),
                "query": pa.array(groups).dictionary_encode(),
                "score": pa.array(scores, pa.float32()),
                "n_tokens": pa.nulls(len(part), pa.int32()),
                "status": status,
            }
        )
        at += len(part)
        (folder / "data").mkdir(exist_ok=True)
        pq.write_table(table, folder / output_layout.part(number))
    return store


def test_a_group_is_ranked_over_all_parts_with_ties_as_in_sql(tmp_path: Path) -> None:
    parts: list[list[Row]] = [
        [("a", 0.5), ("b", 0.1), ("a", 0.9)],
        [("b", None), ("c", 0.2), (None, 0.7)],
        [("a", 0.5), ("a", 0.2), ("b", 0.3)],
    ]
    store = output_of(tmp_path / "out", parts)
    to = tmp_path / "ranks.parquet"
    assert write_ranks(store, "query", to) == Ranked(rows=9, groups=3, without=2)
    found = pq.read_table(to)
    assert found.column_names == ["id", "query", "score", "rank", "status"]
    assert found["id"].to_pylist() == list(range(9))
    assert found["rank"].to_pylist() == [2, 2, 1, None, 1, None, 2, 4, 1]
    assert found["status"].to_pylist().count("error") == 1


ROWS = st.lists(st.tuples(st.integers(-1, 3), st.sampled_from([math.nan, -1.0, 0.0, 0.5, 2.0])))


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_a_rank_is_one_more_than_the_better_rows_of_its_group(
    rows: list[tuple[int, float]],
) -> None:
    groups = np.array([group for group, _ in rows], dtype=np.int64)
    scores = np.array([score for _, score in rows], dtype=np.float64)
    expected = [
        0 if g < 0 or math.isnan(s) else 1 + sum(other == g and t > s for other, t in rows)
        for g, s in rows
    ]
    assert ranks_of(groups, scores).tolist() == expected


def test_ranks_that_could_be_wrong_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    parts: list[list[Row]] = [[("a", 0.5)], [("a", 0.6)]]
    to = tmp_path / "ranks" / "file.parquet"
    to.parent.mkdir()
    store = output_of(tmp_path / "out", parts)
    with pytest.raises(ConfigError, match=r"--to .* cannot be written: "):
        write_ranks(store, "query", tmp_path / "out" / output_layout.JOB / "file.parquet")
    with pytest.raises(ColumnError, match="no column topic; carry it with --columns"):
        write_ranks(store, "topic", to)
    (tmp_path / "out" / output_layout.part(1)).unlink()
    with pytest.raises(ConfigError, match="has not finished, and ranks need all rows"):
        write_ranks(store, "query", to)
    other = output_of(tmp_path / "other", parts, task="text-classification")
    with pytest.raises(ConfigError, match=r"ranks need text-ranking, and the job in .* is text-cl"):
        write_ranks(other, "query", to)
    lists = output_of(tmp_path / "lists", [[("a", 0.5)]])
    table = pq.read_table(tmp_path / "out" / output_layout.part(0))
    table = table.set_column(1, "query", pa.array([["a"]]))
    pq.write_table(table, tmp_path / "lists" / output_layout.part(0))
    with pytest.raises(ColumnError, match=r"holds list<.*which makes no groups"):
        write_ranks(lists, "query", to)
    assert not list(to.parent.iterdir())
