"""A challenger gets the rows that the hash of their text draws, and no others."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from producers.quality.comparison import compare
from producers.submission.challenger import challenger_settings, draw_rows, read_share
from schemas.errors import ConfigError, InputChanged, OutputConflict
from schemas.names import output_layout
from schemas.records.text_hash import share_limit, share_number, text_hash
from tests.unit.small_job import fake_settings, score, submit, write_input

TEXTS = [f"text number {i % 900}" for i in range(1_000)]
OPENED = partial(open_store, settings=fake_settings())


def drawn(into: LocalStore) -> list[dict[str, object]]:
    data = into.read(output_layout.SAMPLE)
    assert data is not None
    rows: list[dict[str, object]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return rows


@pytest.mark.parametrize("id_column", ["id", None])
def test_the_drawn_rows_are_those_that_the_parts_show_too(
    tmp_path: Path, id_column: str | None
) -> None:
    path = write_input(tmp_path / "in.parquet", [*TEXTS, None], stars=[1] * 1_001)
    store, job = submit(
        [path], tmp_path / "out", chunk_rows=300, columns="stars", id_column=id_column
    )
    score(store, job)
    into = LocalStore(tmp_path / "other")
    record = draw_rows(job, store, into, 0.1, OPENED)
    rows = drawn(into)
    assert (record.job, record.rows) == (job.id, len(rows))
    assert 60 < len(rows) < 150
    parts = pq.read_table(tmp_path / "out" / "data").to_pylist()
    wanted = [
        part["id"]
        for part in parts
        if part["text_hash"] is not None and share_number(part["text_hash"]) < share_limit(0.1)
    ]
    assert [row["id"] for row in rows] == wanted
    assert set(rows[0]) == {"id", "text", "stars"}
    chosen = {row["text"] for row in rows}  # all copies of a text, or none
    assert len(rows) == sum(text in chosen for text in TEXTS)


def test_the_rows_are_drawn_once(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.parquet", TEXTS)
    store, job = submit([path], tmp_path / "out")
    into = LocalStore(tmp_path / "other")
    first = draw_rows(job, store, into, 0.1, OPENED)
    before = into.head(output_layout.SAMPLE)
    path.unlink()  # not read a second time
    assert draw_rows(job, store, into, 0.1, OPENED) == first
    assert into.head(output_layout.SAMPLE) == before
    with pytest.raises(OutputConflict, match="--challenger-output"):
        draw_rows(job, store, into, 0.2, OPENED)
    with pytest.raises(InputChanged):
        draw_rows(job, store, LocalStore(tmp_path / "third"), 0.1, OPENED)


def test_no_rows_are_said(tmp_path: Path) -> None:
    texts = [t for t in ("a", "b", "c") if share_number(text_hash(t.encode())) > share_limit(1e-9)]
    path = write_input(tmp_path / "in.parquet", texts)
    store, job = submit([path], tmp_path / "out")
    with pytest.raises(ConfigError, match="none of the job's texts"):
        draw_rows(job, store, LocalStore(tmp_path / "other"), 1e-9, OPENED)
    assert LocalStore(tmp_path / "other").head(output_layout.CHALLENGER) is None


def test_the_challenger_is_the_same_job_on_the_drawn_rows(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.parquet", TEXTS, stars=[1] * 1_000)
    how = {"columns": "stars", "id_column": "id", "limit": 500, "priority": 3}
    store, job = submit([path], tmp_path / "out", **how)
    into = LocalStore(tmp_path / "other")
    record = draw_rows(job, store, into, 0.2, OPENED)
    settings = challenger_settings(fake_settings(**how), "models:/m@candidate", job)
    assert (settings.model, settings.priority) == ("models:/m@candidate", 2)
    other, second = submit(
        [f"{into.uri}/{output_layout.SAMPLE}"], tmp_path / "other",
        columns="stars", id_column="id", literal=True,
    )  # fmt: skip
    assert second.rows == record.rows < 150
    score(other, second)
    assert pq.read_table(tmp_path / "other" / "data").column_names[:2] == ["id", "stars"]
    with pytest.raises(ConfigError, match="text-classification"):
        compare(store, other)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.25", 0.25), ("100%", 1.0)])
def test_a_share_is_read(text: str, share: float) -> None:
    assert read_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "5", "-1%", "half", "101%", "nan"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--share"):
        read_share(text)


def test_shares_of_texts_are_what_they_say() -> None:
    numbers = [share_number(text_hash(str(i).encode())) for i in range(20_000)]
    for share in (0.01, 0.05, 0.5):
        assert sum(n < share_limit(share) for n in numbers) / 20_000 == pytest.approx(
            share, abs=0.01
        )
    assert all(n < share_limit(1.0) for n in numbers)
