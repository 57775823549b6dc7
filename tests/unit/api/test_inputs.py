"""Tables in memory become one Parquet file in the output, named after its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from headrace.storage.local import LocalStore
from producers.api.inputs import GROUP_ROWS, addresses_of, is_table, store_table
from schemas.errors import ConfigError

TEXTS = ["one", "two", None]
TABLE = pa.table({"text": pa.array(TEXTS, pa.string())})


def made_of(given: Any, folder: Path) -> tuple[str, pa.Table]:
    uri = store_table(given, LocalStore(folder))
    return uri, pq.read_table(uri)


@pytest.mark.parametrize(
    "given",
    [
        TABLE,
        TABLE.to_batches()[0],
        ds.dataset(TABLE),
        TABLE.to_pandas(),
        pl.DataFrame({"text": TEXTS}),
        pl.LazyFrame({"text": TEXTS}),
        pd.DataFrame({"text": TEXTS}, index=[7, 8, 9]),
    ],
    ids=lambda x: f"{type(x).__module__}.{type(x).__name__}",
)
def test_each_kind_of_table_keeps_its_rows(given: Any, tmp_path: Path) -> None:
    assert is_table(given)
    uri, table = made_of(given, tmp_path)
    assert table["text"].to_pylist() == TEXTS
    assert uri.startswith(f"{tmp_path}/_headrace/input/")
    assert [p.name for p in tmp_path.rglob("*.parquet")] == [], "readers of tables take these"


def test_the_same_rows_in_other_batches_are_the_same_file(tmp_path: Path) -> None:
    rows = [f"text {i}" for i in range(GROUP_ROWS * 2 + 5)]
    whole = pa.table({"text": rows})
    pieces = pa.Table.from_batches(whole.to_batches(max_chunksize=999))
    first, table = made_of(whole, tmp_path)
    assert made_of(pieces, tmp_path)[0] == first
    assert made_of(whole.slice(1), tmp_path)[0] != first
    assert table["text"].to_pylist() == rows
    assert pq.ParquetFile(first).metadata.num_row_groups == 3


def test_an_empty_table_is_stored(tmp_path: Path) -> None:
    assert made_of(TABLE.slice(0, 0), tmp_path)[1].num_rows == 0


def test_what_parquet_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    odd = pa.table({"text": ["a"], "x": pa.array([None], pa.month_day_nano_interval())})
    with pytest.raises(ConfigError, match="cannot be stored as an input"):
        store_table(odd, LocalStore(tmp_path))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_addresses_are_paths_and_lists_of_them() -> None:
    assert addresses_of("in/*.parquet") == ["in/*.parquet"]
    assert addresses_of([Path("a"), "s3://b/c"]) == ["a", "s3://b/c"]


@pytest.mark.parametrize("given", [5, b"bytes", [1], None])
def test_what_is_neither_address_nor_table_is_refused(given: Any) -> None:
    assert not is_table(given)
    with pytest.raises(ConfigError, match="an input is an address or a table, and this is a"):
        addresses_of(given)
