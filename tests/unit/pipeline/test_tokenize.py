"""Distinct texts once, faults set aside, and a long text no dearer than it must be."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from headrace.tasks.contract import Encodings, LoadRequest
from headrace.tasks.registry import load_task
from schemas.records.text_hash import text_hash
from tests.unit.tiny_models import save_model
from workers.pipeline.rows import (
    NULL_TEXT,
    RowError,
    TokenizedWindow,
    Window,
)
from workers.pipeline.tokenize import (
    LONG_TEXT,
    encode_rows,
    tokenize_window,
)
from workers.tasks.fake import FakeTask


def fake(max_length: int | None = None) -> FakeTask:
    task = FakeTask()
    task.load(LoadRequest("", "cpu", "float32", max_length, {"faults": True}))
    return task


def window(*texts: str | RowError, pairs: list[str] | None = None) -> Window:
    hashes = [None if isinstance(t, RowError) else text_hash(t.encode()) for t in texts]
    carried = pa.RecordBatch.from_arrays([pa.array(range(len(texts)))], ["id"])
    return Window(0, carried, texts, hashes, pairs)


def prepare(*texts: str | RowError, poison: str = "", suspect: str = "") -> TokenizedWindow:
    return tokenize_window(
        window(*texts),
        fake(),
        poison={text_hash(poison.encode()): RowError("worker_lost", "x")} if poison else {},
        suspects={text_hash(suspect.encode())} if suspect else (),
    )


def test_copies_point_at_the_first_of_them() -> None:
    found = prepare("a", "b", "a", NULL_TEXT, "b")
    assert found.unique.tolist() == [0, 1]
    assert found.copy_of.tolist() == [0, 1, 0, -1, 1]
    assert found.faults == {3: NULL_TEXT}


def test_texts_that_will_not_encode_leave_and_the_others_keep_their_places() -> None:
    bad = "x __raise_encode__"
    found = prepare("a", bad, "b", bad, "a", "c")
    assert found.unique.tolist() == [0, 2, 5]
    assert found.copy_of.tolist() == [0, -1, 1, -1, 0, 2]
    assert {row: f.error_type for row, f in found.faults.items()} == dict.fromkeys(
        (1, 3), "fake_fault"
    )
    assert found.encodings is not None
    assert found.encodings.extra == ["a", "b", "c"]


def test_a_window_where_nothing_encodes_has_no_encodings() -> None:
    found = prepare("__raise_encode__ 1", "__raise_encode__ 2")
    assert found.encodings is None
    assert found.copy_of.tolist() == [-1, -1]


def test_a_poison_text_is_an_error_in_every_row() -> None:
    found = prepare("a", "deadly", "b", "deadly", poison="deadly")
    assert set(found.faults) == {1, 3}
    assert found.unique.tolist() == [0, 2]


def test_a_suspect_is_held_back_with_all_its_copies() -> None:
    found = prepare("a", "odd", "odd", suspect="odd")
    assert set(found.held_back) == {1, 2}
    assert found.unique.tolist() == [0]


def test_an_empty_window_is_no_trouble() -> None:
    assert prepare().encodings is None


@pytest.mark.parametrize("size", [LONG_TEXT, LONG_TEXT + 1, 30 * LONG_TEXT])
def test_a_long_text_comes_out_as_if_all_of_it_had_been_encoded(size: int) -> None:
    text = "ab" * (size // 2)
    cut, _ = encode_rows(window(text, "short"), [0, 1], fake(300_000))
    whole = fake(300_000).encode([text, "short"])
    assert cut is not None
    assert cut.offsets.tolist() == whole.offsets.tolist()
    assert cut.truncated.tolist() == whole.truncated.tolist()
    assert cut.ids.tolist() == whole.ids.tolist()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("text-classification", "SequenceClassification"),
        ("token-classification", "TokenClassification"),
        ("zero-shot-classification", "SequenceClassification"),
    ],
)
def test_a_model_that_reads_the_end_of_a_long_text_gets_its_end(
    name: str, head: str, tmp_path: Path
) -> None:
    labels = {"id2label": {0: "contradiction", 1: "entailment"}}
    folder = save_model(tmp_path / "m", "bert", head, **labels)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["truncation_side"] = "left"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    task = load_task(name)
    params = {"candidate_labels": "good,bad"} if name.startswith("zero") else {}
    task.load(LoadRequest(str(folder), "cpu", "float32", None, params))
    text = "good " * (LONG_TEXT // 4) + "anna works in paris not in london " * 200
    check_same(encode_rows(window(text, "bad"), [0, 1], task)[0], task.encode([text, "bad"]))


def test_a_long_text_is_not_cut_inside_a_word_that_counts(tmp_path: Path) -> None:
    task = load_task("text-classification")
    folder = save_model(tmp_path / "m", "bert", "SequenceClassification")
    task.load(LoadRequest(str(folder), "cpu", "float32", None, {}))
    # one unknown word of 100,000 letters; fifty letters of it would be fifty tokens
    start = ("good" + " " * 200) * 500
    text = start[: LONG_TEXT - 50] + "x" * LONG_TEXT + " bad" * 100
    check_same(encode_rows(window(text), [0], task)[0], task.encode([text]))


def check_same(found: Encodings | None, whole: Encodings) -> None:
    assert found is not None
    assert found.ids.tolist() == whole.ids.tolist()
    assert found.truncated.tolist() == whole.truncated.tolist()
    spans = [[span.offsets for span in it.extra or () if hasattr(span, "offsets")]
             for it in (found, whole)]  # fmt: skip
    assert spans[0] == spans[1]


def test_a_long_text_that_will_not_encode_is_one_fault() -> None:
    texts = ["fine", "__raise_encode__" + "x" * (2 * LONG_TEXT)]
    found, bad = encode_rows(window(*texts), [0, 1], fake(10))
    assert set(bad) == {1}
    assert found is not None
    assert len(found) == 1


def test_pairs_go_together() -> None:
    found, bad = encode_rows(window("a", "b", pairs=["x", "y"]), [1], fake())
    assert bad == {}
    assert found is not None
    assert found.extra == ["b\x1fy"]
