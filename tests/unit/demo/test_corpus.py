from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import mean, median

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.demo.corpus import CORPUS_SEED, Review, rows, write_corpus
from producers.demo.score import accuracy


@pytest.fixture(scope="module")
def reviews() -> list[Review]:
    return list(rows(CORPUS_SEED, 4_000))


def test_the_same_seed_gives_the_same_rows_and_a_longer_corpus_begins_with_them() -> None:
    assert list(rows(5, 300)) == list(islice(rows(5, 900), 300))


def test_another_seed_gives_other_rows() -> None:
    texts = {review.text for review in rows(1, 500)}
    others = {review.text for review in rows(2, 500)}
    assert len(texts & others) < 0.05 * len(texts)


def test_ids_are_unique_and_sortable(reviews: list[Review]) -> None:
    ids = [review.id for review in reviews]
    assert ids[0] == "r-000000"
    assert ids == sorted(set(ids))


def test_labels_are_balanced_and_agree_with_the_stars(reviews: list[Review]) -> None:
    labels = Counter(review.label for review in reviews)
    assert set(labels) == {"negative", "positive"}
    assert labels["positive"] / len(reviews) == pytest.approx(0.5, abs=0.03)
    assert {review.stars for review in reviews if review.label == "positive"} == {3, 4, 5}
    assert {review.stars for review in reviews if review.label == "negative"} == {1, 2, 3}


def test_lengths_are_skewed_from_a_few_words_to_several_paragraphs(reviews: list[Review]) -> None:
    words = [len(review.text.split()) for review in reviews]
    assert min(words) <= 3
    assert max(words) > 200
    assert median(words) < 0.8 * mean(words)
    assert any(review.text.count("\n\n") > 3 for review in reviews)


def test_texts_look_like_what_people_type(reviews: list[Review]) -> None:
    texts = [review.text for review in reviews]
    assert 0.01 < 1 - len(set(texts)) / len(texts) < 0.2  # duplicates, but not mostly
    assert any(text.isupper() for text in texts)
    assert any(text.islower() for text in texts)
    assert any(ord(max(text)) > 0x1F000 for text in texts)
    assert not any("{" in text or "_" in text for text in texts)


def test_the_file_holds_every_row_in_order_in_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "new" / "corpus.parquet"
    assert write_corpus(path, rows(3, 1_050), row_group_rows=500) == 1_050
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [
        500,
        500,
        50,
    ]
    assert file.schema_arrow.names == ["id", "text", "product", "stars", "label"]
    assert file.read()["text"].to_pylist() == [review.text for review in rows(3, 1_050)]


def test_a_corpus_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield from rows(3, 30)
        raise RuntimeError("the generator died")

    with pytest.raises(RuntimeError, match="died"):
        write_corpus(tmp_path / "corpus.parquet", broken(), row_group_rows=10)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_score_matches_rows_by_id_and_leaves_error_rows_out(tmp_path: Path) -> None:
    reviews = list(rows(4, 20))
    write_corpus(tmp_path / "corpus.parquet", reviews)
    other = {"negative": "positive", "positive": "negative"}
    labels: list[str | None] = [review.label for review in reviews]
    labels[0], labels[1] = other[reviews[0].label], None
    table = pa.table(
        {
            "id": [review.id for review in reviews],
            "predicted_label": pa.array(labels).dictionary_encode(),
            "status": pa.array(["ok", "error"] + ["ok"] * 18).dictionary_encode(),
        }
    )
    (tmp_path / "output" / "data").mkdir(parents=True)
    pq.write_table(table.slice(10), tmp_path / "output" / "data" / "part-00000.parquet")
    pq.write_table(table.slice(0, 10), tmp_path / "output" / "data" / "part-00001.parquet")
    assert accuracy(tmp_path / "output", tmp_path / "corpus.parquet") == (18, 19)
