"""A part is whole before it has a name, and nothing stays behind when it is not."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.output.plan_file import PlanTable
from headrace.storage.local import LocalStore
from schemas.errors import DiskFull, HeadraceError, StorageError
from schemas.names import output_layout
from schemas.records import part_schema
from tests.fake_jobs import FakeJob, make_job
from workers.pipeline.rows import ChunkStats
from workers.pipeline.write import PartSink

SCHEMA = pa.schema([("id", pa.int64()), ("status", part_schema.STATUS), ("text", pa.string())])


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return make_job(tmp_path, ["x"] * 20, chunk_rows=10)


def sink(job: FakeJob, attempt: str = "a1") -> PartSink:
    return PartSink(job.store, job.job, PlanTable.load(job.store).chunk(1), attempt)


def rows(count: int, text: str = "t") -> pa.RecordBatch:
    status = pa.array([part_schema.OK] * count).cast(part_schema.STATUS)
    columns = [pa.array(range(count)), status, pa.array([text] * count)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def left_behind(job: FakeJob) -> list[str]:
    """Everything below the output but the records of the submission."""
    root = Path(job.store.uri)
    return [
        str(p.relative_to(root))
        for p in root.rglob("*")
        if p.name not in ("_headrace", "job.json", "plan.chunks", "tmp")
    ]


def stats(count: int = 10) -> ChunkStats:
    return ChunkStats(rows=count, ok=count - 1, errors_by_type={"null_text": 1})


def test_a_part_has_its_rows_and_says_where_they_came_from(job: FakeJob) -> None:
    it = sink(job)
    it.write(rows(4))
    it.write(rows(6))
    done = it.commit(stats(), {part_schema.META_TRACE: "t" * 32})
    data = job.store.read(output_layout.part(1))
    assert done.won
    assert data is not None
    assert (done.bytes, done.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    footer = pq.read_metadata(pa.BufferReader(data))
    facts = {k.decode(): v.decode() for k, v in footer.metadata.items()}
    assert footer.num_rows == 10
    assert facts[part_schema.META_JOB] == job.id
    assert (facts[part_schema.META_CHUNK], facts[part_schema.META_FIRST_ROW]) == ("1", "10")
    assert (facts[part_schema.META_ROWS], facts[part_schema.META_OK]) == ("10", "9")
    assert json.loads(facts[part_schema.META_ERRORS]) == {"null_text": 1}
    assert (facts[part_schema.META_ATTEMPT], facts[part_schema.META_TRACE]) == ("a1", "t" * 32)
    assert left_behind(job) == ["data", "data/part-00001.parquet"]


def test_no_name_is_visible_before_the_commit(job: FakeJob) -> None:
    it = sink(job)
    it.write(rows(10, "x" * (4 << 20)))  # large enough to be on the disk by now
    assert list(job.store.list("")) == list(job.store.list("_headrace/"))
    it.discard()
    it.discard()
    assert left_behind(job) == []


def test_the_second_of_two_loses_and_leaves_the_first_as_it_was(job: FakeJob) -> None:
    first, second = sink(job, "a1"), sink(job, "a2")
    for it in (first, second):
        it.write(rows(10))
    assert first.commit(stats(), {}).won
    before = job.store.read(output_layout.part(1))
    assert not second.commit(stats(), {}).won
    assert job.store.read(output_layout.part(1)) == before
    assert left_behind(job) == ["data", "data/part-00001.parquet"]


@pytest.mark.parametrize("count", [0, 9, 11])
def test_a_part_of_another_length_gets_no_name(job: FakeJob, count: int) -> None:
    it = sink(job)
    if count:
        it.write(rows(count))
    with pytest.raises(StorageError):
        it.commit(stats(count), {})
    it.discard()
    assert left_behind(job) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(job: FakeJob) -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnop0123456789", k=4 << 20))
    it = sink(job)

    def fill() -> None:
        for _ in range(10):
            it.write(rows(1, noise))
        it.commit(stats(), {})

    with files_of_at_most(1 << 20), pytest.raises(DiskFull, match="no space left"):
        fill()
    it.discard()
    assert left_behind(job) == []


class RefusingStore(LocalStore):
    """Takes everything but parts."""

    def create_from_file(self, name: str, path: Path) -> bool:
        raise StorageError("503, six times")


def test_a_store_that_refuses_leaves_nothing(job: FakeJob) -> None:
    refusing = RefusingStore(job.store.uri)
    it = PartSink(refusing, job.job, PlanTable.load(job.store).chunk(1), "a1")
    it.write(rows(10))
    with pytest.raises(HeadraceError, match="503"):
        it.commit(stats(), {})
    it.discard()
    assert left_behind(job) == []
