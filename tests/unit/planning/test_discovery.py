"""What counts in a folder, what is passed over, and that it is said."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import ObjectInfo
from producers.planning.discovery import MOST_PEEKS, discover, partitions_of
from producers.planning.passed_over import PassedOver
from schemas.errors import InputNotFound
from tests.unit.small_job import fake_settings, prepare_small, write_input

open_here = partial(open_store, settings=load_settings())


def names(folder: Path, only: str | None = None) -> tuple[list[str], PassedOver]:
    passed = PassedOver()
    found = discover([str(folder)], open_here, only=only, passed=passed)
    return [f.info.name for f in found], passed


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_in_the_file_and_in_its_path_is_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"day=2/a.{kind}"
    path.parent.mkdir()
    if kind == "parquet":
        write_input(path, ["one"], day=["1"])
    else:
        path.write_text('{"text": "one", "day": "1"}\n')
    said = f"column 'day' is in {path} and in its path: the file's value is taken"
    prepared = prepare_small([tmp_path], tmp_path / "_out", fake_settings(columns="day"))
    assert said in prepared.warnings
    unused = prepare_small([tmp_path], tmp_path / "_out", fake_settings())
    assert said not in unused.warnings


@pytest.mark.parametrize("columns", ["day", "Day", "day,stars", ""])
def test_a_column_and_a_folder_that_differ_in_large_letters_are_a_warning(
    tmp_path: Path, columns: str
) -> None:
    path = tmp_path / "Day=2/a.parquet"
    path.parent.mkdir()
    write_input(path, ["one"], day=["1"], stars=[1])
    prepared = prepare_small([tmp_path], tmp_path / "_out", fake_settings(columns=columns or None))
    said = [w for w in prepared.warnings if "take them for one" in w]
    if not columns:
        assert said == []
        return
    assert said == [
        f"{path} has column 'day' and its path 'Day': DuckDB and Spark take them for one; here 'day' "
        "is the file's and 'Day' the path's"
    ]


@pytest.mark.parametrize("pattern", ["", "*.parquet"])
def test_a_link_to_a_file_that_is_not_there_is_a_warning(tmp_path: Path, pattern: str) -> None:
    write_input(tmp_path / "a.parquet", ["one"])
    for name in ("b.parquet", "_hidden.parquet", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    prepared = prepare_small([f"{tmp_path}/{pattern}"], tmp_path / "_out", fake_settings())
    assert prepared.inputs.rows == 1
    (said,) = [w for w in prepared.warnings if "not there" in w]
    assert said.endswith(
        "1 links in the input lead to files that are not there, whose rows are missing: b.parquet"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Parquet file under each name that writers use, and others."""
    for name in (
        "a.parquet", "b.parq", "c.pq", "d.PARQUET", "e.parquet.gzip", "f.c000", "g", "h.snappy",
    ):  # fmt: skip
        write_input(tmp_path / name, ["one", "two"])
    for name in ("i.jsonl", "j.ndjson", "k.JSONL"):
        (tmp_path / name).write_text('{"text": "a"}\n')
    (tmp_path / "l.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    (tmp_path / "README.md").write_text("not data, and longer than twelve bytes")
    (tmp_path / "state.json").write_text('{"a": "document of another kind"}')
    (tmp_path / "x.csv").write_text("a,b\n")
    (tmp_path / "_SUCCESS").write_text("")
    return tmp_path


def test_files_are_known_by_their_name_or_by_how_they_begin(folder: Path) -> None:
    found, passed = names(folder)
    assert found == [
        "a.parquet", "b.parq", "c.pq", "d.PARQUET", "e.parquet.gzip", "f.c000", "g", "h.snappy",
        "i.jsonl", "j.ndjson", "k.JSONL", "l.jsonl.gz",
    ]  # fmt: skip
    assert passed.names == ["README.md", "state.json", "x.csv"]
    (warning,) = passed.warnings()
    assert warning.startswith("3 of the input's files passed over: README.md, state.json, x.csv")


def test_a_job_says_what_it_passed_over(folder: Path) -> None:
    for name in "ijk":
        next(folder.glob(f"{name}.*")).unlink()
    (folder / "l.jsonl.gz").unlink()
    prepared = prepare_small([folder], folder / "_out", fake_settings())
    assert prepared.inputs.files == 8
    assert any("3 of the input's files passed over" in w for w in prepared.warnings)


def test_a_pattern_chooses_by_name_alone(folder: Path) -> None:
    found, passed = names(folder, "*.json")
    assert found == ["state.json"]
    assert passed.count == 0
    with pytest.raises(InputNotFound, match=r"searched for \*\.nothing"):
        names(folder, "*.nothing")


def test_a_bucket_of_many_other_files_is_not_read_forever(tmp_path: Path) -> None:
    for number in range(MOST_PEEKS + 5):
        (tmp_path / f"{number:05d}.txt").write_text("longer than twelve bytes")
    write_input(tmp_path / "z.parquet", ["x"])
    found, passed = names(tmp_path)
    assert (found, passed.count, passed.peeks) == (["z.parquet"], MOST_PEEKS + 5, MOST_PEEKS)


def test_any_number_of_files_is_known_by_how_they_begin(tmp_path: Path) -> None:
    """Hive's `000000_0`: opening one that is Parquet is no request in vain."""
    write_input(tmp_path / "000000_0", ["x"])
    for number in range(1, MOST_PEEKS + 5):
        (tmp_path / f"{number:06d}_0").hardlink_to(tmp_path / "000000_0")
    found, passed = names(tmp_path)
    assert (len(found), passed.count) == (MOST_PEEKS + 5, 0)


@pytest.mark.parametrize("pattern", ["", "**/*.parquet"])
def test_hidden_files_with_the_name_of_data_are_counted_and_said(
    tmp_path: Path, pattern: str
) -> None:
    for name in (
        "a.parquet", "_b.parquet", "sub/.c.parquet", "_old/d.parquet",
        "_temporary/0/e.parquet", "._a.parquet", ".cache/f.parquet", "_metadata", ".a.parquet.crc",
    ):  # fmt: skip
        write_input(tmp_path / name, ["x"])
    prepared = prepare_small([tmp_path / pattern], tmp_path / "_out", fake_settings())
    assert prepared.inputs.files == 1
    (said,) = (warning for warning in prepared.warnings if "left out" in warning)
    assert said.startswith("3 files of the input left out, whose name or folder begins with _ or .")
    assert all(name in said for name in ("_b.parquet", "sub/.c.parquet", "_old/d.parquet"))


def test_hives_null_partition_is_null(tmp_path: Path) -> None:
    assert partitions_of("a=__HIVE_DEFAULT_PARTITION__/f") == (("a", None),)
    write_input(tmp_path / "in/day=__HIVE_DEFAULT_PARTITION__/a.parquet", ["x"])
    write_input(tmp_path / "in/day=1/a.parquet", ["x"])
    from tests.unit.small_job import score, submit

    store, job = submit([tmp_path / "in"], tmp_path / "out", columns="day")
    score(store, job)
    days = pq.read_table(tmp_path / "out/data")["day"].to_pylist()
    assert sorted(days, key=str) == ["1", None]


class Bucket:
    """A bucket's listing; nothing of it is read."""

    uri = "s3://bucket/in"
    is_local = False

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def head(self, name: str) -> None:
        return None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (ObjectInfo(key, 100, "e", 0.0) for key in self.keys if key.startswith(prefix))


@pytest.mark.parametrize(
    ("pattern", "odd"),
    [
        ("s3://bucket/in", ["a//b.parquet", "./a.parquet", "x/../a.parquet", "/c.parquet"]),
        ("s3://bucket/in/*/*.parquet", ["./a.parquet", "/c.parquet"]),
    ],
)
def test_keys_that_no_uri_can_name_are_counted_and_said(pattern: str, odd: list[str]) -> None:
    plain = ("a.parquet", "day/b.parquet")
    bucket: Any = Bucket(*plain, "a//b.parquet", "./a.parquet", "x/../a.parquet", "/c.parquet")
    passed = PassedOver()
    found = [f.info.name for f in discover([pattern], lambda uri: bucket, passed=passed)]
    assert found == [name for name in plain if "*" not in pattern or "/" in name]
    (warning,) = passed.warnings()
    assert warning.startswith(f"{len(odd)} keys of the input were passed over")
    assert f": {', '.join(odd)}; copy them" in warning
