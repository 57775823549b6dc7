"""An input that was only touched is the planned one where the plan can prove it, and else is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from headrace.formats.opener import InputOpener
from headrace.output.plan_file import PlanTable
from headrace.storage.open import open_store
from headrace.storage.store import Store
from producers.planning import contents
from producers.submission.unchanged import verify_inputs_unchanged
from schemas.errors import InputChanged
from schemas.records.job import Job
from tests.unit.small_job import fake_settings, submit, write_input

LINES = "".join(f'{{"text": "row {i} of many"}}\n' for i in range(20_000))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(LINES)
    return path


def check(store: Store, job: Job) -> list[str]:
    told: list[str] = []
    verify_inputs_unchanged(job, store, fake_settings(), told.append)
    return told


def open_planned(store: Store) -> None:
    opener = InputOpener(partial(open_store, settings=fake_settings()))
    for chunk in PlanTable.load(store):
        opener.unchanged(chunk.pieces[0].file)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 7))


def test_a_touched_input_is_noted_and_goes_on_also_in_a_worker(
    corpus: Path, tmp_path: Path
) -> None:
    store, job = submit([corpus], tmp_path / "out")
    assert check(store, job) == []
    touch(corpus)
    assert check(store, job) == [f"{corpus}: touched, same bytes"]
    open_planned(store)


def edited(path: Path) -> None:
    path.write_text(LINES.replace("row 10000", "raw 10000"))


def shorter(path: Path) -> None:
    path.write_text(LINES[: LINES.rindex("{")])


@pytest.mark.parametrize("change", [edited, shorter, Path.unlink])
def test_a_changed_byte_far_from_the_ends_is_refused(
    corpus: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    store, job = submit([corpus], tmp_path / "out")
    change(corpus)
    for use in (lambda: check(store, job), lambda: open_planned(store)):
        with pytest.raises(InputChanged):
            use()


def test_without_a_hash_it_is_refused_with_the_way_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MOST_BYTES", 1_000)
    store, job = submit([corpus], tmp_path / "out")
    before = corpus.stat().st_mtime_ns
    touch(corpus)
    with pytest.raises(InputChanged) as refused:
        check(store, job)
    seconds = f"{before // 10**9}.{before % 10**9:09d}"
    assert str(refused.value).endswith(f"touch -d @{seconds} {corpus}")
    os.utime(corpus, ns=(1, before))
    assert check(store, job) == []


def test_the_hashes_are_of_each_file_and_read_again(tmp_path: Path) -> None:
    write_input(tmp_path / "in/a.parquet", ["a"])
    write_input(tmp_path / "in/b.parquet", ["b"])
    store, _ = submit([tmp_path / "in"], tmp_path / "out")
    assert len({file.content for file in PlanTable.load(store).files} - {None}) == 2
