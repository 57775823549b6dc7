"""Profiles add up exactly, are made again from the part, and never fail a chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.output.job_record import require_job as read_job
from headrace.profiles.bins import LOGIT_STEP, score_bins, value_bins
from headrace.profiles.measure import ProfileBuilder, add_vectors
from headrace.profiles.profile import Profile, merge, parse_profile
from headrace.profiles.scripts import main_scripts
from headrace.profiles.store import profile_of_part, read_job_profile, read_profile
from headrace.profiles.vocabulary import Vocabulary, read_vocabulary, save_vocabulary
from headrace.storage.local import LocalStore
from headrace.tasks.catalog import task_spec
from schemas.errors import StorageError
from schemas.names import output_layout
from schemas.records.part_schema import STATUS
from tests.unit.fake_output import write_fake_output
from workers.pipeline.profile import ChunkProfile

LABELS = ("good", "bad", "none")
SPEC = task_spec("text-classification")


def rows_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Rows of a part of text classification."""
    ok = [row["error"] is None for row in rows]
    return pa.record_batch({
        "predicted_label": pa.array(
            [r["label"] if k else None for r, k in zip(rows, ok, strict=True)], pa.string()
        ).dictionary_encode(),
        "score": pa.array(
            [r["score"] if k else None for r, k in zip(rows, ok, strict=True)], pa.float32()
        ),
        "n_tokens": pa.array(
            [len(r["ids"]) if k else None for r, k in zip(rows, ok, strict=True)], pa.int32()
        ),
        "truncated": pa.array([len(r["ids"]) > 5 if k else None for r, k in zip(rows, ok, strict=True)]),
        "status": pa.array(["ok" if k else "error" for k in ok]).dictionary_encode().cast(STATUS),
        "error_type": pa.array([r["error"] for r in rows], pa.string()).dictionary_encode(),
    })  # fmt: skip


def profile(rows: list[dict[str, Any]], cuts: list[int]) -> Profile:
    """The profile of rows that are counted in batches which end at these places."""
    builder = ProfileBuilder(SPEC)
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        some = rows[start:stop]
        builder.add_rows(rows_of(some))
        texts = [r["text"].encode() for r in some]
        lengths = np.array([len(r["ids"]) for r in some], dtype=np.int64)
        sizes = np.array([len(t) for t in texts], dtype=np.int64)
        builder.add_texts(texts, sizes, lengths, sum(not t.strip() for t in texts))
        ids = np.array([i for r in some for i in r["ids"]], dtype=np.int32)
        halves = np.array([r["half"] for r in some], dtype=np.int64)
        builder.add_tokens(ids, lengths, np.array([r["copies"] for r in some], np.int64), halves)
    return builder.finish(Vocabulary.of_tokens(("a", "b"), 0, ()).counts())


ROW = st.fixed_dictionaries({
    "label": st.sampled_from(LABELS),
    "score": st.floats(0, 1, width=32) | st.floats(-30, 30, width=32),
    "ids": st.lists(st.integers(0, 40), min_size=1, max_size=8),
    "error": st.sampled_from([None, None, None, "null_text"]),
    "text": st.text(max_size=12),
    "half": st.integers(0, 1),
    "copies": st.integers(1, 3),
})  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=30), st.data())
def test_profiles_of_pieces_add_up_to_the_profile_of_the_whole(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    whole = profile(rows, [])
    pieces = [profile(rows[a:b], []) for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    backwards = merge(data.draw(st.permutations(pieces)))
    assert merge(pieces) == merge([whole]) == backwards == merge([profile(rows, cuts)])
    assert merge(pieces).to_bytes() == backwards.to_bytes()
    assert parse_profile(backwards.to_bytes(), "it") == backwards
    assert merge([merge(pieces[:2]), *pieces[2:]]) == backwards


def test_embeddings_add_up_in_whatever_order() -> None:
    draw = np.random.default_rng(3)
    values = draw.normal(size=(57, 24)).astype(np.float32)
    columns = [pa.array(list(part), pa.list_(pa.float32())) for part in np.split(values, [11, 12])]
    one = Profile(vectors=add_vectors(None, pa.array(list(values), pa.list_(pa.float32()))))
    several = [Profile(vectors=add_vectors(None, column)) for column in columns]
    assert merge(several) == merge(several[::-1]) == merge([one])
    assert one.vectors is not None
    mean = np.array(one.vectors.sums) / one.vectors.rows / (1 << 16)
    assert np.allclose(mean, values.mean(axis=0), atol=1e-5)


def test_bins_keep_the_order_of_numbers() -> None:
    values = np.array([-300.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.04, 1.1, 7e8])
    assert (np.diff(value_bins(values)) >= 0).all()
    assert len(set(value_bins(values).tolist())) == 9  # 1.04 is not far enough from 1
    logits = np.arange(-3, 3, LOGIT_STEP) + LOGIT_STEP / 2
    assert set(np.diff(score_bins(1 / (1 + np.exp(-logits))))) == {1}
    assert score_bins(np.array([0.0, 1.0])).tolist() == [0, 129]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "latin"), ("Größe, naïve", "latin"), ("Привет, world", "cyrillic"),
        ("Ελληνικά", "greek"), ("שלום עולם", "hebrew"), ("مرحبا", "arabic"), ("नमस्ते", "devanagari"),
        ("สวัสดี", "thai"), ("中文字", "han"), ("ひらがな カタカナ", "kana"), ("한국어", "hangul"),
        ("😀😀", "emoji"), ("12:30 — !", "none"), ("", "none"),
    ],
)  # fmt: skip
def test_the_script_of_a_text_is_that_of_most_letters(text: str, script: str) -> None:
    assert main_scripts([text.encode()]) == {script: 1}
    assert main_scripts([b"ab", text.encode(), b""])[script] >= 1


def test_a_lost_profile_is_made_again_from_the_part(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=3, rows=50)
    job = read_job(store)
    chunks = [profile_of_part(store, SPEC, chunk) for chunk in range(3)]
    whole = read_job_profile(store, job)
    assert whole == merge(chunks)
    assert (whole.rows, sum(whole.labels.values())) == (150, whole.ok)
    assert whole.rows - whole.ok == sum(whole.errors.values())
    # the whole is kept; one that cannot be read is made again
    assert store.read(output_layout.PROFILE) == whole.to_bytes()
    store.replace(output_layout.PROFILE, b"cut off")
    store.replace(output_layout.profile(1), b"\x1f\x8bcut off")
    assert read_profile(store, job, 1) == chunks[1]
    assert read_job_profile(store, job) == whole


def test_a_job_that_still_runs_keeps_no_whole_profile(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=3, rows=20)
    store.delete(output_layout.part(2))
    assert read_job_profile(store, read_job(store)).rows == 40
    assert store.head(output_layout.PROFILE) is None


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_labels_and_scores_are_counted_for_each_task(tmp_path: Path, task: str) -> None:
    store = write_fake_output(tmp_path / "out", chunks=2, rows=40, task=task)
    whole = read_job_profile(store, read_job(store))
    assert set(whole.labels) == set(whole.scores)
    for label, bins in whole.scores.items():
        assert sum(bins.values()) == whole.labels[label]
    if task == "token-classification":
        assert sum(whole.items.values()) == whole.ok
        assert sum(k * n for k, n in whole.items.items()) == sum(whole.labels.values())


def test_no_reader_of_tables_takes_a_profile() -> None:
    for name in (output_layout.profile(3), output_layout.PROFILE, output_layout.VOCABULARY):
        assert name.startswith("_")
        assert Path(name).suffix not in {
            ".parquet",
            ".json",
            ".gz",
            ".csv",
        }


def test_a_broken_profile_says_where(tmp_path: Path) -> None:
    for data in (b"", b"{}", Profile(version=9).to_bytes(), Profile().to_bytes()[:20]):
        with pytest.raises(StorageError, match="here"):
            parse_profile(data, "here")


def test_the_vocabulary_is_kept_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    words = Vocabulary.of_tokens(("[UNK]", "the", "Ġgood", "##ly"), 0, (9,))
    save_vocabulary(store, words)
    save_vocabulary(store, Vocabulary.of_tokens(("other",), None, ()))
    assert read_vocabulary(store) == words
    assert [words.word(i) for i in (1, 2, 3, 99)] == ["the", "good", "##ly", "token 99"]
    store.replace(output_layout.VOCABULARY, b"no gzip")
    assert read_vocabulary(store) is None


def test_a_profile_that_fails_fails_alone() -> None:
    made = ChunkProfile(SPEC)
    made.add(None, pa.record_batch({"x": [1]}))  # type: ignore[arg-type]
    made.add(None, pa.record_batch({"x": [1]}))  # type: ignore[arg-type]
    assert made.finish() is None
