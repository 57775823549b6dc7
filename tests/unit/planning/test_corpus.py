"""Which files an input means, in which order, and what their footers say."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.formats.input_identity import files_digest
from headrace.formats.opener import etag_of
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from producers.planning.columns import ColumnRequest
from producers.planning.corpus import Corpus, in_order, read_corpus
from producers.planning.discovery import (
    covers,
    discover,
    partitions_of,
)
from producers.planning.globs import glob_to_regex
from producers.planning.passed_over import PassedOver
from schemas.errors import ColumnError, InputNotFound
from tests.unit.small_job import write_input

SETTINGS = load_settings()
open_here = partial(open_store, settings=SETTINGS)


def found(*patterns: Any) -> list[str]:
    return [f.uri for f in discover([str(p) for p in patterns], open_here)]


def read(patterns: Sequence[Any], limit: int | None = None, **wanted: Any) -> Corpus:
    names = tuple(str(p) for p in patterns)
    wish = ColumnRequest(**{"task": "fake", "text": "text", **wanted})
    return read_corpus(names, discover(names, open_here), wish, limit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.parquet",
        "a.parquet",
        "sub/c.parquet",
        "_temporary/x.parquet",
        "sub/.hidden/x.parquet",
        "_x.parquet",
        ".y.parquet",
        "year=2026/land=%C3%96sterreich/p.parquet",
    ):
        write_input(tmp_path / name, ["one", "two"])
    (tmp_path / "README.md").write_text("not data")
    return tmp_path


def test_a_folder_means_its_parquet_files_by_name_without_hidden_ones(folder: Path) -> None:
    names = [uri.removeprefix(f"{folder}/") for uri in found(folder)]
    assert names == [
        "a.parquet", "b.parquet", "sub/c.parquet", "year=2026/land=%C3%96sterreich/p.parquet",
    ]  # fmt: skip


def test_a_file_means_itself_whatever_its_name(folder: Path) -> None:
    assert found(folder / "_x.parquet") == [f"{folder}/_x.parquet"]


def test_a_file_that_is_a_link_is_its_target(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/l.parquet").symlink_to(folder / "a.parquet")
    assert found(tmp_path / "links/l.parquet") == [f"{folder.resolve()}/a.parquet"]


@pytest.mark.parametrize("pattern", ["", "**/*.parquet", "*/"])
@pytest.mark.parametrize("link", ["current", "zlatest"])
def test_a_link_inside_a_folder_adds_no_file_twice_and_is_counted(
    tmp_path: Path, link: str, pattern: str
) -> None:
    write_input(tmp_path / "day=1/x.parquet", ["a"])
    (tmp_path / link).symlink_to(tmp_path / "day=1")
    (tmp_path / "day=1/y.parquet").symlink_to(tmp_path / "day=1/x.parquet")
    passed = PassedOver()
    files = list(discover([f"{tmp_path}/{pattern}"], open_here, passed=passed))
    assert [(f.info.name, f.partitions) for f in files] == [("day=1/x.parquet", (("day", "1"),))]
    assert passed.links == 3
    assert "count once" in next(passed.warnings())


def test_a_link_to_what_is_not_listed_itself_is_read_once(tmp_path: Path) -> None:
    write_input(tmp_path / "_store/x.parquet", ["a"])
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).symlink_to(tmp_path / "_store/x.parquet")
    assert found(tmp_path) == [f"{tmp_path}/a.parquet"]


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    write_input(tmp_path / "part[1].parquet", ["x"])
    assert found(tmp_path / "part[1].parquet") == [f"{tmp_path}/part[1].parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet", "b.parquet"]),
        ("[!a].parquet", ["b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("*/c.parquet", ["sub/c.parquet"]),
        ("**/c.parquet", ["sub/c.parquet"]),
        ("year=*", ["year=2026/land=%C3%96sterreich/p.parquet"]),
        ("s*", ["sub/c.parquet"]),
        ("*.md", ["README.md"]),
    ],
)
def test_a_glob_means_what_it_matches(folder: Path, pattern: str, expected: list[str]) -> None:
    assert [uri.removeprefix(f"{folder}/") for uri in found(folder / pattern)] == expected


def test_a_double_star_crosses_folders(folder: Path) -> None:
    assert len(found(folder / "**/*.parquet")) == 4


def test_inputs_keep_their_order_and_a_file_comes_once(folder: Path) -> None:
    uris = found(folder / "b.parquet", folder / "*.parquet", folder / "sub")
    assert [Path(uri).name for uri in uris] == ["b.parquet", "a.parquet", "c.parquet"]


def test_a_folder_and_a_link_to_it_count_once(tmp_path: Path) -> None:
    write_input(tmp_path / "real/x.parquet", ["one"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(found(tmp_path / "real", tmp_path / "link")) == 1
    assert len(found(tmp_path / "link", tmp_path / "real/x.parquet")) == 1


def test_a_name_with_wildcards_is_taken_as_it_is_written_when_asked(tmp_path: Path) -> None:
    write_input(tmp_path / "a[1]/x.parquet", ["one"])
    write_input(tmp_path / "a1/y.parquet", ["two"])
    write_input(tmp_path / "what?.parquet", ["three"])

    def literally(name: str) -> list[str]:
        files = discover([str(tmp_path / name)], open_here, literal=True)
        return [Path(f.uri).name for f in files]

    assert literally("a[1]") == ["x.parquet"]
    assert literally("what?.parquet") == ["what?.parquet"]
    with pytest.raises(InputNotFound, match=r"a\* does not exist"):
        literally("a*")


def test_partitions_come_from_the_path_decoded() -> None:
    assert partitions_of("a=1/b=x%2Fy/c/f=2.parquet") == (("a", "1"), ("b", "x/y"))
    assert partitions_of("a=1/a=2/f") == (("a", "2"),)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a", True), ("*", "a/b", True), ("*.p", "a/b.p", False), ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True), ("[a-c]", "b", True), ("[]x]", "]", True),
        ("a.c", "abc", False), ("[", "[", True), ("**", "a/b/c", True),
    ],
)  # fmt: skip
def test_globs_as_regular_expressions(pattern: str, name: str, expected: bool) -> None:
    import re

    assert bool(re.fullmatch(glob_to_regex(pattern), name)) is expected


@pytest.mark.parametrize(
    ("pattern", "uri", "expected"),
    [
        ("/data", "/data/out/data/part-00000.parquet", True),
        ("/data", "/data/_out/data/part-00000.parquet", False),
        ("/data", "/database/out/data/part-00000.parquet", False),
        ("/data/*.parquet", "/data/out/data/part-00000.parquet", False),
        ("/data/**/*.parquet", "/data/out/data/part-00000.parquet", True),
        ("/data/o*", "/data/out/data/part-00000.parquet", True),
        ("s3://bucket/in", "s3://bucket/in/out/data/part-00000.parquet", True),
        ("s3://bucket/in", "s3://bucket/input/data/part-00000.parquet", False),
    ],
)
def test_an_output_inside_the_input_is_seen(pattern: str, uri: str, expected: bool) -> None:
    assert covers(pattern, uri) is expected


# -- footers


def test_footers_give_rows_row_groups_types_and_identity(tmp_path: Path) -> None:
    a = write_input(tmp_path / "in/a.parquet", ["hello"] * 250, stars=[1] * 250)
    write_input(tmp_path / "in/b.parquet", [])  # its id column has the type null
    write_input(tmp_path / "in/c.parquet", ["x"] * 10, stars=[2] * 10)
    corpus = read([tmp_path / "in"], id="id", carried=("stars",))
    assert (corpus.file_count, corpus.rows, corpus.empty_files) == (2, 260, 1)
    assert (corpus.types.text, corpus.types.id) == ("string", "string")
    assert [(c.name, c.type) for c in corpus.types.carried] == [("stars", "int64")]
    first = next(iter(corpus.files))
    assert [g.rows for g in first.units] == [100, 100, 50]
    assert (first.file.size, first.file.etag) == etag_of(LocalStore(a.parent), a.name, "parquet")
    assert corpus.digest == files_digest(f.file for f in corpus.files)
    assert corpus.text_bytes == sum(g.text_bytes for f in corpus.files for g in f.units)


def test_files_can_be_read_again_and_by_two_at_once(tmp_path: Path) -> None:
    for i in range(5):
        write_input(tmp_path / f"in/{i}.parquet", ["x"] * (i + 1))
    files = read([tmp_path / "in"]).files
    pairs = list(zip(files, files, strict=True))
    assert [(a.file.uri, a.units) for a, _ in pairs] == [(b.file.uri, b.units) for _, b in pairs]


def test_a_limit_reads_no_more_footers_than_it_takes(tmp_path: Path) -> None:
    write_input(tmp_path / "in/a.parquet", ["x"] * 10)
    write_input(tmp_path / "in/b.parquet", ["x"] * 10)
    for i in range(200):
        (tmp_path / f"in/c{i:03d}.parquet").write_bytes(b"not parquet at all")
    corpus = read([tmp_path / "in"], limit=15)
    assert (corpus.rows, corpus.file_count) == (15, 2)


def test_a_column_in_the_file_comes_before_one_in_the_path(tmp_path: Path) -> None:
    write_input(tmp_path / "in/day=1/a.parquet", ["x"], day=[7])
    corpus = read([tmp_path / "in"], carried=("day",))
    assert corpus.types.carried[0].type == "int64"
    assert next(iter(corpus.files)).file.partitions == ()


@pytest.mark.parametrize("first", [True, False])
def test_texts_and_ids_may_be_null_in_all_rows_of_a_file_but_not_of_all(
    tmp_path: Path, first: bool
) -> None:
    empty = pa.table({"text": pa.nulls(2), "id": pa.nulls(2)})
    pq.write_table(empty, tmp_path / ("a.parquet" if first else "z.parquet"))
    write_input(tmp_path / "m.parquet", ["x"])
    corpus = read([tmp_path], id="id")
    assert (corpus.types.text, corpus.types.id, corpus.rows) == ("string", "string", 3)
    (tmp_path / "m.parquet").unlink()
    with pytest.raises(ColumnError, match="'text' is null in every row of every file"):
        read([tmp_path])


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_every_kind_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", None], pa.string()).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    write_input(tmp_path / "b.parquet", ["x"])
    corpus = read([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert (corpus.types.text, corpus.rows) == (str(kind), 3)


def test_the_etag_of_a_file_changes_with_content_size_or_time(tmp_path: Path) -> None:
    path = write_input(tmp_path / "a.parquet", ["x", "y"])
    store = LocalStore(tmp_path)
    before = etag_of(store, "a.parquet", "parquet")
    assert before == etag_of(store, "a.parquet", "parquet")
    times = path.stat().st_mtime_ns
    write_input(path, ["x", "z"])
    os.utime(path, ns=(times, times))
    assert path.stat().st_size == before[0]
    assert etag_of(store, "a.parquet", "parquet") != before
    os.utime(path, ns=(times + 1, times + 1))
    assert etag_of(store, "a.parquet", "parquet") != before
    assert etag_of(store, "gone.parquet", "parquet") is None


# -- in parallel, in order


def test_results_come_in_order_and_only_a_few_ahead() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(n: int) -> int:
        with lock:
            begun.append(n)
        time.sleep(0.001 * (n % 3))
        return n

    results = in_order(work, range(1000), threads=8)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert max(begun) < 100
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 150


def test_an_error_comes_at_its_items_place() -> None:
    def work(n: int) -> int:
        if n == 5:
            raise ValueError("five")
        return n

    def items() -> Iterator[int]:
        yield from range(100)

    results = in_order(work, items())
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
