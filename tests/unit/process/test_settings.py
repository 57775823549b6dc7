"""Flag, then environment, then headrace.toml, then default; and what has no meaning is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.settings import (
    Settings,
    cache_folder,
    environment_of,
    is_state_temporary,
    load_settings,
    state_folder,
)
from schemas.errors import ConfigError, ExitCode


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("HEADRACE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_each_source_gives_way_to_the_one_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().text_column == "text"
    (tmp_path / "headrace.toml").write_text('text_column = "from_file"\n')
    assert load_settings().text_column == "from_file"
    monkeypatch.setenv("HEADRACE_TEXT_COLUMN", "from_environment")
    assert load_settings().text_column == "from_environment"
    assert load_settings(text_column="from_flag").text_column == "from_flag"
    assert load_settings(text_column=None).text_column == "from_environment"


def test_a_file_elsewhere_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "conf" / "night.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text("priority = 7\n")
    monkeypatch.setenv("HEADRACE_CONFIG", str(elsewhere))
    assert load_settings().priority == 7
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_settings()


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_lists_are_separated_by_commas_wherever_they_stand(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = {"columns": "stars, product"} if source == "flag" else {}
    if source == "environment":
        monkeypatch.setenv("HEADRACE_COLUMNS", "stars, product")
    if source == "file":
        (tmp_path / "headrace.toml").write_text('columns = "stars, product"\n')
    assert load_settings(**flags).columns == ("stars", "product")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"dtype": "float99"}, "HEADRACE_DTYPE"),
        ({"error_threshold": 1.5}, "HEADRACE_ERROR_THRESHOLD"),
        ({"workers": 0}, "HEADRACE_WORKERS"),
        ({"queue": "no spaces"}, "HEADRACE_QUEUE"),
        ({"task_params": "{not json"}, "task-params"),
        ({"task_params": "[1]"}, "task-params"),
    ],
)
def test_a_value_without_meaning_is_named(flags: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**flags)
    assert named in str(caught.value)
    assert caught.value.exit_code == ExitCode.CONFIG


def test_an_unknown_name_in_the_file_is_an_error_and_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('text_colunm = "body"\n')
    with pytest.raises(ConfigError, match="text_colunm"):
        load_settings()


def test_a_file_that_is_not_toml_is_said(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("text_column =\n")
    with pytest.raises(ConfigError, match=r"headrace\.toml"):
        load_settings()


def test_a_process_that_is_started_has_the_very_same_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings(
        broker_url="redis://:secret@host/0",
        columns="a,b",
        task_params='{"ms_per_row": 2.5}',
        scores=True,
        lease_s=3.5,
        s3_path_style=False,
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_password_of_the_broker_is_not_shown() -> None:
    settings = load_settings(broker_url="redis://:hunter2@host/0")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_settings_do_not_change() -> None:
    settings: Settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.queue = "other"  # type: ignore[misc]


@pytest.mark.parametrize("home", ["a file", "nowhere"])
def test_without_a_home_that_can_be_written_there_is_a_folder_of_this_users(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file") if home == "a file" else "/proc/none")
    assert is_state_temporary()
    for folder in (state_folder(), cache_folder()):
        (folder / "deeper").mkdir(parents=True, exist_ok=True)
    assert state_folder() != cache_folder()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local/state/headrace"
    assert not is_state_temporary()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("HEADRACE_TEXT_COLUNM", "HEADRACE_TEXT_COLUMN"),
        ("HEADRACE_LEASES_S", "HEADRACE_LEASE_S"),
        ("HEADRACE_BROKER_URI", "HEADRACE_BROKER_URL"),
    ],
)
def test_a_variable_that_is_almost_a_settings_is_refused(
    variable: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match=f"{variable} is no setting; did you mean {meant}"):
        load_settings()


@pytest.mark.parametrize(
    "variable",
    [
        "HEADRACE_CONTROLLER_PORT",
        "HEADRACE_CONTROLLER_SERVICE_HOST",
        "HEADRACE_FINISHED_STATE",
        "HEADRACE_X",
    ],
)
def test_other_variables_with_our_prefix_are_left_alone(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    load_settings()


def test_a_misspelled_name_in_the_file_is_named_with_the_file_and_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "headrace.toml").write_text("text_colunm = 'x'\n")
    with pytest.raises(
        ConfigError, match=r"headrace\.toml: text_colunm is no setting; did you mean text_column"
    ):
        load_settings()
    (tmp_path / "night.toml").write_text("qqqq = 'x'\n")
    monkeypatch.setenv("HEADRACE_CONFIG", "night.toml")
    with pytest.raises(ConfigError, match=r"night\.toml: qqqq is no setting$"):
        load_settings()


@pytest.mark.parametrize("name", ["endpoint_key", "model_registry_token"])
def test_a_key_from_a_file_has_no_line_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HEADRACE_{name.upper()}", " sk-a b\r\n")
    assert getattr(load_settings(), name).get_secret_value() == "sk-a b"
    monkeypatch.setenv(f"HEADRACE_{name.upper()}", "\n")
    assert getattr(load_settings(), name) is None
    for odd in ("sk-secret\nX-Other: 1", "sk-secrét"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", odd)
        with pytest.raises(ConfigError, match="a header of HTTP cannot have") as error:
            load_settings()
        assert "sk-" not in str(error.value)
