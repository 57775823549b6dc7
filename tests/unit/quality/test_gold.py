"""An output's predictions meet their gold labels, from a carried column or from a file."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.storage.open import open_store
from producers.quality.gold import Gold, evaluate, read_labels
from producers.terminal.evaluation import as_json
from schemas.errors import ColumnError, ConfigError, InputNotFound, JobNotFound
from schemas.names import output_layout
from schemas.records.job import Inputs, Job, ModelRef, Options, Spec, job_id

OPENED = partial(open_store, settings=load_settings())
PARTS: list[dict[str, list[Any]]] = [
    {
        "id": ["a", "b", "c"],
        "gold": ["pos", "neg", "pos"],
        "stars": [5, 1, 5],
        "predicted_label": ["pos", "neg", "neg"],
        "score": [0.9, 0.8, 0.6],
        "status": ["ok", "ok", "ok"],
    },
    {
        "id": ["d", "e", "f"],
        "gold": ["neg", None, "pos"],
        "stars": [1, None, 5],
        "predicted_label": [None, "pos", "pos"],
        "score": [None, 0.7, 0.99],
        "status": ["error", "ok", "ok"],
    },
]


def output(
    folder: Path, parts: list[dict[str, list[Any]]], task: str = "text-classification"
) -> LocalStore:
    """An output of these parts, with the record of its job."""
    store = LocalStore(str(folder))
    spec = Spec(
        inputs_digest="0" * 64, text_column="text", text_pair_column=None, id_column="id",
        columns=("gold", "stars"), task=task, params={}, model=ModelRef(uri="/m", revision="r"),
        dtype="float32", max_length=None, limit=None,
    )  # fmt: skip
    job = Job(
        id=job_id(spec), output=store.uri, spec=spec, options=Options(),
        inputs=Inputs(patterns=("x",), digest="0" * 64, files=1, rows=6, bytes=1),
        id_type="string", text_type="string", carried=(), chunks=len(parts), rows=6,
        submitted_s=0.0, versions={}, command="",
    )  # fmt: skip
    store.create(output_layout.JOB, job.model_dump_json().encode())
    for chunk, part in enumerate(parts):
        kinds = {"score": pa.float32(), "stars": pa.int64()}
        arrays = {k: pa.array(v, kinds.get(k, pa.string())) for k, v in part.items()}
        buffer = io.BytesIO()
        pq.write_table(pa.table(arrays), buffer)
        store.create(output_layout.part(chunk), buffer.getvalue())
    return store


def test_a_carried_column_is_counted_over_all_parts(tmp_path: Path) -> None:
    found = evaluate(output(tmp_path / "out", PARTS), Gold("gold"), ["stars"])
    assert found.counts.pairs == {("pos", "pos"): 2, ("neg", "neg"): 1, ("pos", "neg"): 1}
    assert (found.without_gold, found.without_prediction) == (1, 1)
    assert found.overall.accuracy.value == 0.75
    by_stars = {value: counts.pairs for value, counts in found.slices["stars"].items()}
    assert by_stars == {"5": {("pos", "pos"): 2, ("pos", "neg"): 1}, "1": {("neg", "neg"): 1}}
    assert json.loads(json.dumps(as_json(found)))["accuracy"]["value"] == 0.75


@pytest.mark.parametrize("name", ["labels.parquet", "labels.jsonl"])
def test_a_file_gives_labels_by_id(tmp_path: Path, name: str) -> None:
    labels = {"key": ["c", "a", "zz", "f"], "gold": [0, 1, 1, 1]}
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table(labels), path)
    else:
        lines = [
            json.dumps(dict(zip(labels, row, strict=True)))
            for row in zip(*labels.values(), strict=True)
        ]
        path.write_text("\n".join(lines))
    by_id = read_labels(str(path), "key", "gold", OPENED)
    assert by_id == {"c": "0", "a": "1", "zz": "1", "f": "1"}
    gold = Gold("gold", by_id, {"0": "neg", "1": "pos"})
    found = evaluate(output(tmp_path / "out", PARTS), gold)
    assert found.counts.pairs == {("neg", "neg"): 1, ("pos", "pos"): 2}
    assert found.without_gold == 3


def test_whole_numbers_are_labels_whatever_their_type(tmp_path: Path) -> None:
    part = {**PARTS[0], "predicted_label": ["1", "0", "1"]}
    store = output(tmp_path / "out", [part])
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "gold": [1.0, 0.0, None]}), path)
    found = evaluate(store, Gold("gold", read_labels(str(path), "id", "gold", OPENED)))
    assert found.counts.pairs == {("1", "1"): 1, ("0", "0"): 1}


def test_labels_with_nothing_in_common_are_refused_with_both(tmp_path: Path) -> None:
    store = output(tmp_path / "out", PARTS)
    with pytest.raises(ConfigError, match=r"\(0, 1\) and predicted labels \(neg, pos\)"):
        evaluate(store, Gold("gold", {"a": "1", "b": "0"}))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    store = output(tmp_path / "out", PARTS)
    with pytest.raises(ColumnError, match="no column truth; carry it"):
        evaluate(store, Gold("truth"))
    with pytest.raises(JobNotFound):
        evaluate(LocalStore(str(tmp_path / "nothing")), Gold("gold"))
    with pytest.raises(InputNotFound, match="no such file"):
        read_labels(str(tmp_path / "no.parquet"), "id", "gold", OPENED)
    other = output(tmp_path / "other", PARTS, task="feature-extraction")
    with pytest.raises(ConfigError, match="is feature-extraction"):
        evaluate(other, Gold("gold"))


def test_an_id_with_two_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"id": ["a", "a"], "gold": ["x", "y"]}), path)
    with pytest.raises(ColumnError, match="gives id a both x and y"):
        read_labels(str(path), "id", "gold", OPENED)


def test_a_column_of_ids_is_no_slice(tmp_path: Path) -> None:
    many = {
        "id": [str(i) for i in range(60)], "gold": ["x"] * 60, "stars": [1] * 60,
        "predicted_label": ["x"] * 60, "score": [0.5] * 60, "status": ["ok"] * 60,
    }  # fmt: skip
    with pytest.raises(ColumnError, match="over 50 values"):
        evaluate(output(tmp_path / "out", [many]), Gold("gold"), ["id"])


def test_rows_that_a_model_was_trained_on_are_not_counted(tmp_path: Path) -> None:
    trained = {
        "id": ["a", "b", "c", "d"], "gold": ["pos", "neg", "pos", "neg"], "stars": [5, 1, 5, 1],
        "predicted_label": [None, "neg", None, "pos"], "score": [None, 0.8, None, 0.6],
        "status": ["ok", "ok", "error", "ok"],
    }  # fmt: skip
    found = evaluate(output(tmp_path, [trained], "training"), Gold("gold"), ["stars"])
    assert dict(found.counts.pairs) == {("neg", "neg"): 1, ("neg", "pos"): 1}
    assert found.without_prediction == 1
    assert {value: sum(c.pairs.values()) for value, c in found.slices["stars"].items()} == {"1": 2}
