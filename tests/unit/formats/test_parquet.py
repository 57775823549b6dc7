"""A row group that is larger than a worker may hold is fetched once or twice, piece by piece."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.formats import parquet
from headrace.formats.base import Span
from headrace.formats.opener import InputOpener
from headrace.storage.local import LocalStore
from headrace.storage.s3_file import open_ranged
from headrace.storage.store import ObjectInfo
from schemas.records.chunk import InputFile

ROWS, CHUNK = 29_000, 1_000
TEXT = "x" * 200


class CountedStore(LocalStore):
    """A disk that is read by ranges, as a bucket is, and counts what is fetched."""

    fetched = most = 0

    def open(self, name: str, known: ObjectInfo | None = None) -> Any:
        path = Path(self.uri) / name

        def fetch(start: int, stop: int) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(stop - start)
            self.fetched += len(data)
            self.most = max(self.most, len(data))
            return data

        return open_ranged(path.stat().st_size, fetch)


@pytest.fixture
def giant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One row group of 6 MB where a worker may hold 256 kB."""
    monkeypatch.setattr(parquet, "WHOLE_BYTES", 256 << 10)
    monkeypatch.setattr(parquet, "PIECE_BYTES", 64 << 10)
    table = pa.table({"text": [f"{n} {TEXT}" for n in range(ROWS)]})
    path = tmp_path / "giant.parquet"
    pq.write_table(
        table, path, row_group_size=ROWS, compression="none", use_dictionary=False,
        data_page_size=16 << 10,
    )  # fmt: skip
    return path


def span(first: int) -> Span:
    return Span(0, 1, first, first, CHUNK)


def read(opener: InputOpener, file: InputFile, first: int) -> list[str]:
    rows = opener.unchanged(file).read(span(first), ["text"], batch_rows=300)
    return [text for batch in rows for text in batch.column("text").to_pylist()]


def test_the_chunks_of_one_row_group_fetch_it_once(giant: Path) -> None:
    store = CountedStore(giant.parent)
    file = identity(store, giant)
    opener = InputOpener(lambda uri: store)
    for first in range(0, ROWS, CHUNK):
        assert read(opener, file, first)[0] == f"{first} {TEXT}"
    size = giant.stat().st_size
    assert store.fetched < 1.2 * size + 29 * (128 << 10)  # the file's ends are looked at each time
    assert store.most <= 512 << 10


def test_a_worker_that_begins_the_next_chunk_early_fetches_it_twice(giant: Path) -> None:
    store = CountedStore(giant.parent)
    file = identity(store, giant)
    reader = InputOpener(lambda uri: store)(file)
    before = store.fetched
    running = reader.read(span(0), ["text"], batch_rows=300)
    next(running)
    for first in range(CHUNK, ROWS, CHUNK):
        ahead = reader.read(span(first), ["text"], batch_rows=300)
        next(ahead)
        list(running)
        running = ahead
    list(running)
    assert store.fetched - before < 2.2 * giant.stat().st_size


def test_threads_may_read_one_file_at_once(giant: Path) -> None:
    store = CountedStore(giant.parent)
    opener = InputOpener(lambda uri: store)
    file = identity(store, giant)
    found: dict[int, list[str]] = {}

    def work(first: int) -> None:
        found[first] = read(opener, file, first)

    threads = [threading.Thread(target=work, args=(n * 5_000,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, texts in found.items():
        assert texts == [f"{n} {TEXT}" for n in range(first, first + CHUNK)]


def test_a_row_group_of_24_mb_is_fetched_by_pieces_too(tmp_path: Path) -> None:
    path = tmp_path / "middling.parquet"
    texts = ["x" * 1_000] * 24_000
    pq.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False)
    store = CountedStore(tmp_path)
    reader = InputOpener(lambda uri: store)(identity(store, path))
    rows = sum(len(b) for b in reader.read(Span(0, 1, 0, 0, 24_000), ["text"], batch_rows=1_000))
    assert rows == 24_000
    assert store.most <= parquet.PIECE_BYTES


def test_what_is_held_of_it_is_bounded(giant: Path) -> None:
    store = CountedStore(giant.parent)
    file = identity(store, giant)
    reader = InputOpener(lambda uri: store)(file)
    before = pa.total_allocated_bytes()
    most = 0
    for _ in reader.read(Span(0, 1, 0, 0, ROWS), ["text"], batch_rows=300):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < giant.stat().st_size / 4


def identity(store: LocalStore, path: Path) -> InputFile:
    from headrace.formats.opener import etag_of

    found = etag_of(store, path.name, "parquet")
    assert found is not None
    return InputFile(str(path), *found)
