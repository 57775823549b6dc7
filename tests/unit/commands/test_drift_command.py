"""`headrace drift` from two outputs to its exit code, and a reference kept with a model's version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.models.registry import open_model_registry, parse_address
from headrace.settings import Settings, load_settings
from headrace.storage.local import LocalStore
from producers.commands.quality.drift import drift_of_output
from producers.commands.session import session_with
from producers.quality.reference import profile_of_output
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
from schemas.records.job import ModelRef
from tests.unit.fake_output import write_fake_output


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(model_registry=str(tmp_path / "models"), date="2026-11-10")


def shown(
    settings: Settings, capsys: Any, output: Path | str, against: Path | str, **how: Any
) -> Any:
    """The object of `--json`, and the exit code."""
    options = {"nights": None, "floor": None, "label_column": None, "with_texts": False, **how}
    session = session_with(settings, as_json=True)
    code = drift_of_output(session, str(output), str(against), **options)
    return json.loads(capsys.readouterr().out), code


def test_two_nights_of_one_corpus_are_no_drift(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_output(tmp_path / "a", chunks=4, seed=1)
    write_fake_output(tmp_path / "b", chunks=4, seed=2)
    record, code = shown(settings, capsys, tmp_path / "b", tmp_path / "a")
    assert (record["drifted"], code) == ([], ExitCode.OK)
    assert record["rows"] == {"reference": 1_200, "now": 1_200}


def test_a_night_of_errors_is_found_and_the_floor_is_the_persons(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_output(tmp_path / "a", chunks=4)
    write_fake_output(tmp_path / "b", chunks=4, error_share=0.2)
    record, code = shown(settings, capsys, tmp_path / "b", tmp_path / "a")
    assert (record["drifted"], code) == (["errors"], ExitCode.DRIFT)
    assert record["features"]["errors"]["now"] == pytest.approx(0.2, abs=0.04)
    _, code = shown(settings, capsys, tmp_path / "b", tmp_path / "a", floor="errors=0.6")
    assert code == ExitCode.OK


def test_the_last_nights_are_found_by_their_dates(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("01", "02", "03", "05", "10"):
        write_fake_output(tmp_path / f"2026-11-{day}", chunks=2, error_share=0.2, seed=int(day))
    write_fake_output(tmp_path / "first", chunks=4)
    nights = f"{tmp_path}/{{date}}"
    record, code = shown(settings, capsys, nights, tmp_path / "first", nights=nights)
    assert [Path(n).name[-2:] for n in record["nights"]] == ["05", "03", "02", "01"]
    assert (record["drifted"], code) == ([], ExitCode.OK)  # they are all like this
    with pytest.raises(ConfigError, match="--nights"):
        shown(settings, capsys, nights, tmp_path / "first", nights="scored/always")


def test_a_version_of_a_model_keeps_its_reference(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_output(tmp_path / "a", chunks=4, seed=1)
    write_fake_output(tmp_path / "b", chunks=4, seed=2)
    registry = open_model_registry(settings)
    version = registry.register("reviews", ModelRef(uri="/m", revision="r"), task="x")
    registry.promote("reviews", "champion", 1)
    with pytest.raises(ConfigError, match="--reference OUTPUT"):
        shown(settings, capsys, tmp_path / "b", "models:/reviews@champion")
    registry.keep_profile(version, profile_of_output(str(tmp_path / "a"), settings).to_bytes())
    record, code = shown(settings, capsys, tmp_path / "b", "models:/reviews@champion")
    assert (record["rows"]["reference"], code) == (1_200, ExitCode.OK)
    # the profile is none of the registry's versions or aliases
    assert registry.find(parse_address("models:/reviews@champion")) == version
    assert registry.names() == ["reviews"]


def test_an_output_without_rows_says_so(tmp_path: Path, settings: Settings) -> None:
    store: LocalStore = write_fake_output(tmp_path / "a", chunks=1)
    store.delete(output_layout.part(0))
    with pytest.raises(ConfigError, match="no rows yet"):
        profile_of_output(str(tmp_path / "a"), settings)
