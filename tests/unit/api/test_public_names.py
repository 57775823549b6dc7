"""`import headrace`: a list of public names, cheap to import, whatever folders a user has."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types as types_module
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.setting_fields import setting_types
from headrace.settings import Settings
from producers.api.options import JobOptions, option_names, settings_of
from schemas.errors import ConfigError

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "transformers", "celery", "pyarrow", "pydantic", "rich", "redis", "boto3"}


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", headrace.__all__)
def test_a_public_name_is_there_and_described(name: str) -> None:
    found = getattr(headrace, name)
    assert inspect.getdoc(found), name
    assert name in dir(headrace)


def test_a_name_that_is_not_public_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'drive'"):
        _ = headrace.drive


def test_every_error_with_an_exit_code_of_its_own_is_public() -> None:
    import schemas.errors as errors

    coded = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, errors.HeadraceError)
        and "exit_code" in vars(kind)
    }
    assert coded <= set(headrace.__all__)


def test_importing_it_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"import headrace, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.parametrize("kind", ["package", "folder", "module"])
def test_folders_of_the_user_do_not_come_in_between(tmp_path: Path, kind: str) -> None:
    for name in ("schemas", "producers", "workers", "queue"):
        if kind == "module":
            (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user')")
            continue
        (tmp_path / name).mkdir()
        if kind == "package":
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the user')")
    code = "import headrace; print(headrace.run, headrace.ConfigError, headrace.Job)"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "schemas.errors.ConfigError" in done.stdout


def test_a_module_of_the_user_that_was_imported_before_is_named(tmp_path: Path) -> None:
    (tmp_path / "schemas.py").write_text("")
    done = run_python("import schemas; import headrace", tmp_path)
    assert done.returncode == 1
    assert f"'schemas' of yours is imported already ({tmp_path}/schemas.py)" in done.stderr


def test_options_are_those_of_the_commands() -> None:
    assert set(JobOptions.__annotations__) == option_names()


def kind_of(name: str) -> Any:
    """The type of a setting without None, as the API offers it."""
    types = setting_types(SecretStr=str, CommaList=Sequence[str])
    kind: Any = types.get(name) or Settings.model_fields[name].annotation
    while typing.get_origin(kind) in (types_module.UnionType, typing.Union):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return Mapping[str, Any] if kind == dict[str, Any] else kind


@pytest.mark.parametrize("name", sorted(JobOptions.__annotations__))
def test_an_option_has_the_type_of_its_setting(name: str) -> None:
    offered: Any = typing.get_type_hints(JobOptions)[name]
    kind = kind_of(name)
    is_choice = typing.get_origin(kind) is typing.Literal and offered is str
    assert is_choice or offered == kind


def test_an_option_that_is_misspelled_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match="text_colum is no option of a job; did you mean text_column"
    ):
        settings_of({"text_colum": "body"})


def test_lists_and_mappings_are_taken_as_options() -> None:
    found = settings_of({"columns": ["a", "b"], "task_params": {"x": 1}, "task": "fake"})
    assert (found.columns, found.task_params) == (("a", "b"), {"x": 1})
