"""An output that version 0.1.0 made is verified, reused, explained and finished by this version.

The folder `output_of_0_1_0` holds the objects of one bucket, as `headrace run` of 0.1.0 left them
on an S3 server: `s3://old/corpus/reviews.parquet` (60 rows, one null) and `s3://old/finished`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

OLD = Path(__file__).parent / "output_of_0_1_0"
OUTPUT = "s3://old/finished"
JOB = "0c313cf2ca1c4db1"
LATE = ("_SUCCESS", "_headrace/manifest.json", "_headrace/receipts/00001.json",
        "data/part-00001.parquet")  # fmt: skip
"""What an output lacks whose second chunk was never committed."""


@pytest.fixture
def old(s3_server: Any) -> Any:
    """The bucket `old` as 0.1.0 left it."""
    client = s3_server.client()
    client.create_bucket(Bucket="old")
    for path in sorted(p for p in OLD.rglob("*") if p.is_file()):
        client.put_object(
            Bucket="old", Key=path.relative_to(OLD).as_posix(), Body=path.read_bytes()
        )
    yield client
    for found in client.list_objects_v2(Bucket="old")["Contents"]:
        client.delete_object(Bucket="old", Key=found["Key"])
    client.delete_bucket(Bucket="old")


@pytest.fixture
def headrace(s3_server: Any, tmp_path: Path) -> Any:
    """Runs a command to its end and gives what it printed as JSON; another exit code fails."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    environment = kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_ENDPOINT_URL": s3_server.endpoint,
    }

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "headrace"), *arguments, "--json"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    return run


def submission(output: str) -> tuple[str, ...]:
    """The command that made the old output, into another."""
    return (
        "run", "s3://old/corpus/reviews.parquet", "--output", output, "--task", "fake",
        "--id-column", "id", "--columns", "stars", "--chunk-rows", "20", "--workers", "1",
    )  # fmt: skip


def rows_of(client: Any, prefix: str) -> pa.Table:
    keys = sorted(
        o["Key"]
        for o in client.list_objects_v2(Bucket="old", Prefix=f"{prefix}/data/part-")["Contents"]
    )
    parts = [client.get_object(Bucket="old", Key=k)["Body"].read() for k in keys]
    return pa.concat_tables([pq.read_table(io.BytesIO(part)) for part in parts])


def test_a_finished_output_is_verified_explained_and_adopted(old: Any, headrace: Any) -> None:
    assert headrace("verify", OUTPUT)["verdict"] == "verified"
    assert headrace("explain", OUTPUT, "--id", "id-7")["rows"][0]["status"] == "error"
    again = headrace(*submission(OUTPUT))
    assert (again["job"], again["state"], again["ok"], again["errors"]) == (JOB, "finished", 59, 1)


def test_an_unfinished_output_is_finished_and_its_parts_stay(old: Any, headrace: Any) -> None:
    expected = rows_of(old, "finished")
    for name in LATE:
        old.delete_object(Bucket="old", Key=f"finished/{name}")
    before = old.head_object(Bucket="old", Key="finished/data/part-00000.parquet")["LastModified"]

    done = headrace("resume", OUTPUT)
    assert (done["job"], done["state"], done["ok"], done["errors"]) == (JOB, "finished", 59, 1)
    assert headrace("verify", OUTPUT)["verdict"] == "verified"

    found = rows_of(old, "finished")
    same = [name for name in expected.column_names if name != "trace_id"]
    assert found.select(same).equals(expected.select(same))
    part = old.head_object(Bucket="old", Key="finished/data/part-00000.parquet")
    assert part["LastModified"] == before


def test_rows_of_an_old_output_are_reused(old: Any, headrace: Any) -> None:
    done = headrace(*submission("s3://old/again"), "--reuse", OUTPUT)
    assert (done["state"], done["ok"], done["errors"]) == ("finished", 59, 1)
    expected, found = rows_of(old, "finished"), rows_of(old, "again")
    for name in ("id", "stars", "status", "text_hash"):
        assert found[name].equals(expected[name])
    assert headrace("verify", "s3://old/again")["verdict"] == "verified"
