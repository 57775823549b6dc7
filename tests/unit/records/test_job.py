"""What decides a job's id, over the versions of the record."""

from __future__ import annotations

import json

from schemas.records.engine import PACKED
from schemas.records.job import ModelRef, Spec, job_id

SPEC = Spec(
    inputs_digest="sha256:0",
    text_column="text",
    task="text-classification",
    params={"scores": False, "multi_label": None},
    model=ModelRef(uri="m", revision="r"),
    dtype="float32",
)


def test_a_job_keeps_the_id_it_had_before_there_were_engines() -> None:
    assert job_id(SPEC) == "9eb46e31576c4e5d"
    assert job_id(SPEC.model_copy(update={"engine": "other"})) != job_id(SPEC)


def test_a_record_without_an_engine_is_one_of_the_usual_engine() -> None:
    record = json.loads(SPEC.model_dump_json())
    assert "engine" not in record
    assert Spec.model_validate(record).engine == PACKED
    other = SPEC.model_copy(update={"engine": "other"})
    assert Spec.model_validate_json(other.model_dump_json()) == other
