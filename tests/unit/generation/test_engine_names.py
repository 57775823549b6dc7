"""Engines that generate: found by name, and one in one version for a job."""

from __future__ import annotations

from importlib.metadata import EntryPoint, version
from pathlib import Path

import pytest

from headrace.tasks.generation.engines import GROUP, OURS, engine_named, engine_names, version_here
from schemas.errors import ConfigError
from schemas.records.engine import ENDPOINT, VLLM
from schemas.records.job import ModelRef, Spec, job_id
from schemas.records.model_key import engine_name
from tests.unit.generation.vllm.environment import VERSION, python_with_vllm
from workers.engines.generating.catalog import ENGINES, make_generating_engine

POINT = EntryPoint("echo", "tests.unit.generation.echo_engine:EchoEngine", GROUP)


def spec(**changes: object) -> Spec:
    model = ModelRef(uri="m", revision="r")
    plain = Spec(inputs_digest="d", text_column="text", task="t", model=model, dtype="float32")
    return plain.model_copy(update=changes)


def test_both_sides_know_the_same_engines() -> None:
    assert ENGINES.keys() == OURS.keys()


def test_an_engine_of_ours_has_the_version_of_its_package(tmp_path: Path) -> None:
    python = python_with_vllm(tmp_path)
    for name, package in OURS.items():
        found = VERSION if name == VLLM else version(package)
        assert engine_named(name, vllm_python=python).version == f"{package} {found}"


def test_an_engine_of_an_installed_package_is_found_by_its_name() -> None:
    assert engine_names([POINT]) == sorted({*OURS, ENDPOINT, "echo"})
    assert engine_named("echo", [POINT]).name == "echo"
    assert type(make_generating_engine("echo", [POINT])).__name__ == "EchoEngine"


def test_an_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--engine nil: .* echo"):
        engine_named("nil", [POINT])
    with pytest.raises(ConfigError, match="nil"):
        make_generating_engine("nil", [POINT])
    assert version_here("nil", [POINT]) is None


def test_an_engine_that_cannot_be_imported_says_so() -> None:
    gone = EntryPoint("gone", "no.such.module:Engine", GROUP)
    with pytest.raises(ConfigError, match=r"no\.such\.module"):
        make_generating_engine("gone", [gone])


def test_engine_and_version_are_in_the_jobs_id() -> None:
    one, other = spec(engine="e", engine_version="p 1"), spec(engine="e", engine_version="p 2")
    assert len({job_id(one), job_id(other), job_id(spec(engine="e")), job_id(spec())}) == 4
    assert engine_name(one) == "e (p 1)"


def test_a_job_without_such_an_engine_keeps_its_id() -> None:
    assert "engine_version" not in spec().model_dump()
