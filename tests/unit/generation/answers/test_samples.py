"""Several samples of a row: lists, the same whatever runs beside them, and refused where all are equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.tasks.generation.settings import samples_of
from headrace.tasks.generation.specs import settle
from schemas.errors import ConfigError, InvalidRow
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.test_settings import DECODER, settled
from tests.unit.generation.test_task import TEXTS, loaded, rows_of
from tests.unit.one_chunk import Marks
from workers.engines.generating.base import Answer
from workers.engines.generating.samples import gathered
from workers.pipeline.loaded_task import LoadedTask

SAMPLING: dict[str, Any] = {"temperature": 1.5, "seed": 4}
COLUMNS = ("generated_text", "finish_reason", "n_generated", "logprob")


def test_each_row_has_its_samples_and_the_first_is_that_of_a_job_with_one(tmp_path: Path) -> None:
    one = rows_of(loaded(tmp_path, "llama", **SAMPLING), TEXTS)
    task = loaded(tmp_path, "llama", num_samples=3, **SAMPLING)
    rows = rows_of(task, [*TEXTS, "w1 " * 200])
    assert rows[-1]["error_type"] == "invalid_row"
    assert [rows[-1][name] for name in COLUMNS] == [None] * 4
    assert pa.schema(task.task.columns()).field("finish_reason").type == pa.list_(pa.string())
    for row, single in zip(rows[:-1], one, strict=True):
        assert [len(row[name]) for name in COLUMNS] == [3] * 4
        assert [row[name][0] for name in COLUMNS] == [
            pytest.approx(single[name], abs=1e-4) if name == "logprob" else single[name]
            for name in COLUMNS
        ]
    assert sum(len(set(row["generated_text"])) > 1 for row in rows[:-1]) > len(TEXTS) / 2


def test_samples_are_the_same_beside_other_rows_and_fewer_at_once(tmp_path: Path) -> None:
    task = loaded(tmp_path, "llama", num_samples=3, **SAMPLING)
    together = [row["generated_text"] for row in rows_of(task, TEXTS)]
    few = LoadedTask(task.task, type(task.budget)(20), padded=True)
    apart = [rows_of(few, [text])[0]["generated_text"] for text in TEXTS]
    assert apart == together


def test_a_row_of_which_a_sample_fails_is_an_error() -> None:
    answers = [
        Answer(3, "d", n_generated=1), Answer(0, "a", n_generated=2),
        Answer(2, error=InvalidRow("no")), Answer(1, "b", n_generated=3),
    ]  # fmt: skip
    failed, good = gathered(answers, 2)
    assert (failed.row, str(failed.error)) == (1, "no")
    assert (good.row, good.n_generated) == (0, 5)
    assert [it.text for it in good.samples] == ["a", "b"]


def test_rows_are_marked_and_not_their_samples(tmp_path: Path) -> None:
    marks = Marks()
    task = loaded(tmp_path, engine=EchoEngine(), num_samples=2, num_beams=1, **SAMPLING)
    rows_of(task, ["w1", "w2", "w3"], marks)
    assert set(marks.batches) == {(0,), (1,), (2,)}


def test_samples_need_sampling() -> None:
    with pytest.raises(ConfigError, match="without sampling all would be equal"):
        settled("text-generation", DECODER, max_new_tokens=5, num_samples=2)
    with pytest.raises(ConfigError, match="without sampling"):
        settled("text-generation", DECODER, max_new_tokens=5, num_samples=2, temperature=0.0)
    own = {"do_sample": True, "max_new_tokens": 5}  # the model's own files ask for it
    assert settled("text-generation", DECODER, own, num_samples=2).samples == 2


@pytest.mark.parametrize("samples", [-1, 0, 129])
def test_there_are_as_many_samples_as_make_sense(samples: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 128"):
        samples_of({"num_samples": samples})


def test_samples_and_forms_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--num-samples is not for"):
        settle({"num_samples": 2, "choices": "a,b"})
