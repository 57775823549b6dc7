"""Reads an output with one library, and prints its rows as JSON. Run in an environment of its own.

python read.py READER FOLDER: imports nothing of headrace, since that environment has none.
"""

from __future__ import annotations

import datetime
import glob
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rows = list[dict[str, Any]]


def by_pyarrow(folder: str) -> Rows:
    import pyarrow.dataset as ds

    return ds.dataset(folder, format="parquet").to_table().to_pylist()  # type: ignore[no-any-return]


def by_pandas(folder: str) -> Rows:
    import pandas as pd

    return pd.read_parquet(folder).to_dict("records")  # type: ignore[return-value]


def by_polars(folder: str) -> Rows:
    import polars as pl

    return pl.read_parquet(f"{folder}/**/*.parquet").to_dicts()


def by_duckdb(folder: str) -> Rows:
    import duckdb

    return duckdb.sql(f"FROM '{folder}/**/*.parquet'").to_arrow_table().to_pylist()  # type: ignore[no-any-return]


def by_datasets(folder: str) -> Rows:
    from datasets import load_dataset

    return load_dataset(  # type: ignore[no-any-return]
        "parquet", data_files=sorted(glob.glob(f"{folder}/**/*.parquet", recursive=True)),
        split="train",
    ).to_list()  # fmt: skip


def by_lance(folder: str) -> Rows:
    import tempfile

    import lance
    import pyarrow.dataset as ds

    with tempfile.TemporaryDirectory() as scratch:
        made = lance.write_dataset(ds.dataset(folder, format="parquet").to_table(), f"{scratch}/d")
        return made.to_table().to_pylist()  # type: ignore[no-any-return]


def by_daft(folder: str) -> Rows:
    import daft

    return daft.read_parquet(f"{folder}/**/*.parquet").to_pylist()  # type: ignore[no-any-return]


def by_fastparquet(folder: str) -> Rows:
    import fastparquet

    files = sorted(glob.glob(f"{folder}/**/*.parquet", recursive=True))
    return [row for f in files for row in fastparquet.ParquetFile(f).to_pandas().to_dict("records")]


def by_spark(folder: str) -> Rows:
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    frame = session.getOrCreate().read.option("recursiveFileLookup", "true").parquet(folder)
    return [row.asDict(recursive=True) for row in frame.collect()]


READERS: dict[str, Callable[[str], Rows]] = {
    name.removeprefix("by_"): read for name, read in globals().items() if name.startswith("by_")
}


def plain(value: Any) -> Any:
    """The value as JSON has it, the same for all readers."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return plain(value.item())
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, datetime.date):
        return value.isoformat()[:10]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in sorted(value.items())}
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        return [plain(v) for v in (value if isinstance(value, Sequence) else value.tolist())]
    return "missing" if str(value) in ("NaT", "<NA>") else str(value)


def main(reader: str, folder: str) -> None:
    rows = [{k: plain(v) for k, v in row.items()} for row in READERS[reader](folder)]
    print(json.dumps(sorted(rows, key=lambda row: str(row["id"])), sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
