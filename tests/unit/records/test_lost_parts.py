"""A part that is lost after the end: the job goes on, and nothing is reused of it before."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.driver.job_end import end_of
from producers.records.lost_parts import reopen_if_incomplete
from producers.submission.reuse import reusable
from schemas.errors import InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from tests.unit.small_job import fake_settings, finish, score, submit, write_input

Ended = tuple[Store, Job]


@pytest.fixture
def ended(tmp_path: Path) -> Ended:
    texts = [f"text {i}" for i in range(60)]
    corpus = write_input(tmp_path / "in.parquet", texts, group_rows=20)
    store, job = submit([corpus], tmp_path / "out", chunk_rows=20)
    score(store, job)
    finish(store, job)
    return store, job


def test_a_job_that_lost_nothing_stays_ended(ended: Ended) -> None:
    store, job = ended
    assert reopen_if_incomplete(store) == []
    assert end_of(job, store) is not None


def test_a_finished_job_that_lost_a_part_has_something_left_to_do(ended: Ended) -> None:
    store, job = ended
    store.delete(output_layout.part(1))
    assert reopen_if_incomplete(store) == [1]
    assert end_of(job, store) is None
    assert store.head(output_layout.SUCCESS) is None, "no reader may take it for complete"
    assert store.head(output_layout.part(0)) is not None
    score(store, job, skip=(0, 2))
    finish(store, job)
    assert reopen_if_incomplete(store) == []
    end = end_of(job, store)
    assert end is not None
    assert (end.snapshot.state, end.snapshot.ok) == ("finished", 60)


def test_a_damaged_manifest_is_left_to_the_end_of_the_job(ended: Ended) -> None:
    store, _ = ended
    store.replace(output_layout.MANIFEST, b"{")
    assert reopen_if_incomplete(store) == []


def test_what_lost_parts_is_not_reused_and_the_message_says_what_to_do(ended: Ended) -> None:
    store, job = ended
    opened = lambda uri: open_store(uri, fake_settings())  # noqa: E731
    assert reusable(store.uri, job.spec, opened)[0] == store.uri
    store.delete(output_layout.part(2))
    with pytest.raises(InputUnreadable, match=r"1 part gone.*part-00002.*headrace resume"):
        reusable(store.uri, job.spec, opened)
