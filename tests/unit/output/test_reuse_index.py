"""An index finds each text that was scored ok, and no other."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.output.reuse_index import ReuseIndex, write_index
from headrace.storage.local import LocalStore
from schemas.names import output_layout
from schemas.records.text_hash import text_hash
from workers.pipeline.reuse import EarlierOutput

SCHEMA = pa.schema([pa.field("digest", pa.string())])


def part(texts: list[str | None]) -> pa.Table:
    ok = [t is not None and "bad" not in t for t in texts]
    return pa.table(
        {
            "digest": [f"d-{t}" if good else None for t, good in zip(texts, ok, strict=True)],
            "n_tokens": pa.array([None if t is None else len(t) for t in texts], pa.int32()),
            "truncated": pa.array([False] * len(texts)),
            "status": pa.array(["ok" if good else "error" for good in ok]).dictionary_encode(),
            "text_hash": pa.array(
                [None if t is None else text_hash(t.encode()) for t in texts], pa.binary(16)
            ),
        }
    )


@pytest.fixture
def earlier(tmp_path: Path) -> EarlierOutput:
    store = LocalStore(tmp_path / "out")
    parts = [["a", None, "b", "bad c"], ["d", "a", ""], [f"row {i}" for i in range(500)]]
    for number, texts in enumerate(parts):
        path = tmp_path / "part.parquet"
        pq.write_table(part(texts), path)
        store.create(output_layout.part(number), path.read_bytes())
    scratch = store.scratch() / "index"
    assert write_index(scratch, store, range(3)) == 4 + 500
    store.create_from_file(output_layout.REUSE, scratch)
    return EarlierOutput(ReuseIndex.open(store), store)


def test_a_text_that_was_scored_has_its_answer_and_its_tokens(earlier: EarlierOutput) -> None:
    wanted = {text_hash(t.encode()): t for t in ("a", "b", "d", "", "row 7", "row 499")}
    found = earlier.answers(SCHEMA)(wanted)
    assert {
        wanted[h]: late.value.to_pylist()[0]["digest"] for h, late in found.items() if late.value
    } == {t: f"d-{t}" for t in wanted.values()}
    assert found[text_hash(b"row 499")].n_tokens == 7


def test_an_error_row_and_a_text_never_seen_are_to_be_computed(earlier: EarlierOutput) -> None:
    assert earlier.answers(SCHEMA)({text_hash(b"bad c"), text_hash(b"never seen")}) == {}
    assert earlier.answers(SCHEMA)(set()) == {}


def test_an_output_without_parts_has_no_answers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    scratch = store.scratch() / "index"
    assert write_index(scratch, store, ()) == 0
    store.create_from_file(output_layout.REUSE, scratch)
    assert ReuseIndex.open(store).find([text_hash(b"a")]) == {}
