"""Tables in a bucket: the present snapshot is read, by the tables' own libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from headrace.settings import Settings
from producers.submission.create import create_job
from schemas.errors import InputUnreadable
from tests.conftest import S3Server
from tests.unit.small_job import NOW_S, fake_settings, prepare_small, score

OLD = pa.table({"text": [f"old {n}" for n in range(20)], "day": ["1", None] * 10})
NEW = pa.table({"text": [f"new {n}" for n in range(18)], "day": ["2", None] * 9})


@pytest.fixture
def settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADRACE_S3_ENDPOINT_URL", s3_server.endpoint)
    return fake_settings(columns="text,day")


@pytest.fixture
def iceberg(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A table whose first rows were overwritten, and its catalogue."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # else moto reads none
    catalogue = SqlCatalog(
        "c",
        uri=f"sqlite:///{tmp_path}/c.db",
        warehouse=f"s3://{s3_bucket}/warehouse",
        **{
            "s3.endpoint": s3_server.endpoint,
            "s3.access-key-id": "testing",
            "s3.secret-access-key": "testing-secret",
            "s3.region": "us-east-1",
        },
    )
    catalogue.create_namespace("n")
    table = catalogue.create_table("n.t", schema=OLD.schema)
    table.append(OLD)
    table.overwrite(NEW)
    yield table
    catalogue.close()


@pytest.fixture
def delta(s3_server: S3Server, s3_bucket: str) -> str:
    uri = f"s3://{s3_bucket}/delta"
    options = {"AWS_ENDPOINT_URL": s3_server.endpoint, "AWS_ALLOW_HTTP": "true",
               "AWS_REGION": "us-east-1"}  # fmt: skip
    deltalake.write_deltalake(uri, OLD, partition_by=["day"], storage_options=options)
    deltalake.write_deltalake(
        uri, NEW, partition_by=["day"], mode="overwrite", storage_options=options
    )
    return uri


def days_scored(uri: str, out: Path, settings: Settings) -> list[str | None]:
    """Scores the table; the days of the rows of the output, which are the new ones."""
    from headrace.storage.open import open_store

    prepared = prepare_small([uri], out, settings)
    store = open_store(prepared.output, settings)
    score(store, create_job(store, prepared, now_s=NOW_S)[0])
    table = pq.read_table(out / "data")
    assert {text[:3] for text in table["text"].to_pylist()} == {"new"}
    return sorted(table["day"].to_pylist(), key=str)


def test_an_iceberg_table_in_a_bucket_is_its_snapshot(
    iceberg: Any, tmp_path: Path, settings: Settings
) -> None:
    assert days_scored(iceberg.location(), tmp_path / "out", settings) == ["2"] * 9 + [None] * 9


def test_a_delta_table_in_a_bucket_is_its_snapshot(
    delta: str, tmp_path: Path, settings: Settings
) -> None:
    assert days_scored(delta, tmp_path / "out", settings) == ["2"] * 9 + [None] * 9


def test_a_renamed_column_of_a_table_in_a_bucket_is_refused(
    iceberg: Any, tmp_path: Path, settings: Settings
) -> None:
    with iceberg.update_schema() as change:
        change.rename_column("day", "weekday")
    with pytest.raises(InputUnreadable, match="renamed or replaced"):
        prepare_small([iceberg.location()], tmp_path / "out", settings)


def test_a_table_in_a_bucket_is_not_read_from_outside_of_it(
    delta: str, tmp_path: Path, settings: Settings
) -> None:
    for pattern in (f"{delta}/**/*.parquet", delta.rsplit("/", 1)[0]):
        with pytest.raises(InputUnreadable, match="that were deleted are not read"):
            prepare_small([pattern], tmp_path / "out", settings)
