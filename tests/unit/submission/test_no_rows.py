"""A night without rows: refused, unless it was allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.storage.open import open_store
from producers.submission.reuse import store_index
from producers.verification.verify import verify
from schemas.errors import InputNotFound
from tests.unit.small_job import (
    NOW_S,
    fake_settings,
    finish,
    prepare_small,
    score,
    submit,
    write_input,
)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    write_input(tmp_path / "in/day=1/none.parquet", [], stars=[])
    return tmp_path / "in"


def test_an_input_without_rows_is_refused_and_the_message_names_the_option(
    empty: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputNotFound, match=r"1 file, all empty.*--allow-empty"):
        prepare_small([empty], tmp_path / "out", fake_settings())


@pytest.mark.parametrize(
    "pattern", ["day=1/", "day=1/none.parquet", "day=2*", "day=3/", "*/*.jsonl"]
)
def test_allowed_it_is_a_job_of_no_chunks_that_ends_well(
    empty: Path, tmp_path: Path, pattern: str
) -> None:
    (empty / "day=3").mkdir()
    inputs = [f"{empty}/{pattern}"]
    store, job = submit(inputs, tmp_path / "out", allow_empty=True, id_column="id", columns="stars")
    finish(store, job)
    assert (job.rows, job.chunks, job.inputs.files) == (0, 0, 0)
    result = verify(store, fake_settings(), now_s=NOW_S)
    assert result.ok_overall
    assert (
        submit(inputs, tmp_path / "out", allow_empty=True, id_column="id", columns="stars")[1]
        == job
    )


@pytest.mark.parametrize("missing", ["typo.parquet", "no-mount/"])
def test_what_is_missing_is_refused_even_then(empty: Path, tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputNotFound):
        prepare_small([f"{empty}/{missing}"], tmp_path / "out", fake_settings(allow_empty=True))


def test_the_night_after_an_empty_one_reuses_nothing_and_runs(empty: Path, tmp_path: Path) -> None:
    finish(*submit([empty], tmp_path / "first", allow_empty=True))
    write_input(empty / "day=2/some.parquet", ["one", "two"])
    store, job = submit([empty], tmp_path / "second", reuse=str(tmp_path / "first"))
    store_index(store, open_store(str(tmp_path / "first"), fake_settings()))
    score(store, job)
    assert job.rows == 2
