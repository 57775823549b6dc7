"""One contract, kept by every store: a folder, a bucket, and a bucket that is sent parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.storage.local import LocalStore
from headrace.storage.probe import probe_store
from headrace.storage.s3 import S3Options, S3Store
from headrace.storage.store import Store
from schemas.errors import (
    OutputNotWritable,
    UriNotAllowed,
)
from tests.integration.storage.conftest import PART, names


@pytest.fixture(params=["local", "s3", "s3-parts"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    server = request.getfixturevalue("s3_server")
    bucket = request.getfixturevalue("s3_bucket")
    options = S3Options(endpoint_url=server.endpoint, part_bytes=PART)
    found = S3Store(bucket, "some/prefix", options)
    return found if request.param == "s3" else found.by_parts()


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.head("data/part-0") is None
    assert store.read("data/part-0") is None
    assert names(store) == []
    store.delete("data/part-0")
    with pytest.raises(FileNotFoundError):
        store.open("data/part-0")


def test_the_first_to_create_wins_and_the_second_learns_it(store: Store) -> None:
    assert store.create("data/part-0", b"first")
    assert not store.create("data/part-0", b"second")
    assert store.read("data/part-0") == b"first"


def test_an_empty_object_is_an_object(store: Store) -> None:
    assert store.create("_SUCCESS", b"")
    assert store.read("_SUCCESS") == b""
    assert not store.create("_SUCCESS", b"more")


def test_of_sixteen_creators_at_once_one_wins(store: Store) -> None:
    barrier, results = threading.Barrier(16), {}

    def race(number: int) -> None:
        barrier.wait()
        results[number] = store.create("plan", b"%d" % number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [n for n, won in results.items() if won]
    assert len(results) == 16
    assert len(winners) == 1
    assert store.read("plan") == b"%d" % winners[0]


def test_a_file_is_created_once_and_kept(store: Store) -> None:
    file = store.scratch() / "part"
    file.write_bytes(b"whole")
    assert store.create_from_file("data/part-0", file)
    assert not store.create_from_file("data/part-0", file)
    assert file.read_bytes() == store.read("data/part-0") == b"whole"


def test_an_object_is_known_by_size_and_etag(store: Store) -> None:
    store.create("a", b"12345")
    first = store.head("a")
    assert first is not None
    assert (first.name, first.size) == ("a", 5)
    assert next(iter(store.list())) == first
    store.replace("a", b"123456")
    second = store.head("a")
    assert second is not None
    assert second.etag != first.etag
    assert '"' not in second.etag
    assert second.modified_s >= first.modified_s > 1_700_000_000


def test_replace_makes_and_overwrites(store: Store) -> None:
    store.replace("_headrace/manifest.json", b"1")
    store.replace("_headrace/manifest.json", b"2")
    assert store.read("_headrace/manifest.json") == b"2"
    assert names(store) == ["_headrace/manifest.json"]


def test_delete_twice_is_no_error_and_the_name_is_free_again(store: Store) -> None:
    store.create("a", b"1")
    store.delete("a")
    store.delete("a")
    assert store.head("a") is None
    assert store.create("a", b"2")


def test_the_list_is_in_order_of_whole_names_and_hides_what_is_being_built(store: Store) -> None:
    made = ["b", "a/z", "a-1", "a.json", "a/b/c", "_headrace/x", "data/part-00010", "data/part-2"]
    for name in made:
        store.create(name, b"")
    (store.scratch() / "part").write_bytes(b"half")
    assert names(store) == sorted(made)
    assert names(store, "data/") == ["data/part-00010", "data/part-2"]
    assert names(store, "data/part-0") == ["data/part-00010"]
    assert names(store, "a") == ["a-1", "a.json", "a/b/c", "a/z"]
    assert names(store, "a/b") == ["a/b/c"]
    assert names(store, "nothing") == names(store, "nothing/") == []
    assert names(store, "_headrace/tmp/") == []


def test_a_prefix_is_not_its_neighbour(store: Store) -> None:
    store.create("a", b"1")
    assert store.head("a/b") is None
    assert store.read("a/b") is None


def test_a_name_that_climbs_is_refused(store: Store) -> None:
    for name in ("../a", "a/../../b", "/etc/passwd", "", "a//b", "./a", "a\0b"):
        for call in (store.head, store.read, store.delete, store.open):
            with pytest.raises(UriNotAllowed):
                call(name)
        for write in (store.create, store.replace):
            with pytest.raises(UriNotAllowed):
                write(name, b"")


def test_names_hold_any_letter(store: Store) -> None:
    name = "lang=日本/a b+c%20?#&=é.parquet"
    assert store.create(name, b"1")
    assert names(store) == [name]
    assert store.read(name) == b"1"
    with store.open(name) as file:
        assert file.read() == b"1"


def test_parquet_is_read_at_random(store: Store) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": list(range(10_000))}), sink, row_group_size=1_000)
    store.create("t.parquet", sink.getvalue().to_pybytes())
    with store.open("t.parquet") as file:
        assert file.size() == sink.getvalue().size
        parquet = pq.ParquetFile(file)
        assert parquet.read_row_group(7)["n"][0].as_py() == 7_000
        assert parquet.read_row_group(2)["n"][0].as_py() == 2_000


def test_the_probe_is_passed_and_leaves_nothing(store: Store) -> None:
    probe_store(store)
    assert names(store) == []


# -- the probe


class Careless(LocalStore):
    """A store that does not know create-if-absent, like S3 servers of old."""

    def create(self, name: str, data: bytes) -> bool:
        self.replace(name, data)
        return True


class Deaf(LocalStore):
    """A store that says no and does nothing."""

    def create(self, name: str, data: bytes) -> bool:
        return False


@pytest.mark.parametrize("broken", [Careless, Deaf])
def test_a_store_that_breaks_the_promise_is_refused(
    broken: Callable[[Path], Store], tmp_path: Path
) -> None:
    store = broken(tmp_path)
    with pytest.raises(OutputNotWritable, match="only-if-absent"):
        probe_store(store)
    assert names(store) == []
