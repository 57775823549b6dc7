"""Every setting of headrace, in one place: flag, then environment, then `headrace.toml`, then default.

The environment variable of a field is `HEADRACE_` and its name in capitals; its place in
`headrace.toml` (in the working folder, or where `HEADRACE_CONFIG` says) is its name. This module
is the only one that reads the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, create_model, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from headrace.setting_fields import (
    QUEUE_NAME,
    QUEUE_SCHEMES,
    SettingFields,
    declared_settings,
    setting_types,
)
from headrace.tasks.catalog import BUILT_IN
from schemas.errors import ConfigError

CommaList = Annotated[tuple[str, ...], NoDecode]


def _declared() -> dict[str, Any]:
    """A field for each declared setting."""
    types = setting_types(SecretStr=SecretStr, CommaList=CommaList)
    return {
        name: (types[name], Field(it.default, description=it.help, **dict(it.bounds)))
        for name, it in declared_settings().items()
    }


def _task_options() -> dict[str, Any]:
    """A field for each option of our own tasks, as their catalogue has it."""
    fields: dict[str, Any] = {}
    for task in BUILT_IN.values():
        for it in task.params:
            if it.name in fields:
                continue
            kind: Any = Literal[it.choices] if it.choices else it.type
            kind = kind | None if it.default is None else kind
            fields[it.name] = (kind, Field(it.default, description=_described(it.name)))
    return fields


def _described(option: str) -> str:
    """What the option is, with the tasks that have it; tasks may mean different things by it."""
    found: dict[str, list[str]] = {}
    for task in BUILT_IN.values():
        for it in task.params:
            if it.name == option:
                found.setdefault(it.help, []).append(task.name)
    return "; ".join(f"{', '.join(names)}: {it}" for it, names in found.items())


if TYPE_CHECKING:

    class _Fields(SettingFields, BaseSettings):
        pass
else:
    _Fields = create_model("_Fields", __base__=BaseSettings, **_task_options(), **_declared())


class Settings(_Fields):
    """The settings in force, each checked; see `SettingFields`."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", extra="forbid", frozen=True, validate_default=True
    )

    @property
    def give_up_after_s(self) -> float:
        """`give_up_after` in seconds."""
        units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
        number = self.give_up_after.rstrip("smhd")
        return float(number) * units.get(self.give_up_after[len(number) :], 1)

    @field_validator("model_registry_token", "endpoint_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        """Without the line end of the file that it was read from; None if nothing is left."""
        text = "" if key is None else key.get_secret_value().strip()
        if not (text.isascii() and text.isprintable()):
            raise ValueError("holds a character that a header of HTTP cannot have")
        return SecretStr(text) if text else None

    @field_validator("queue_url")
    @classmethod
    def _queue_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        starts = tuple(f"{scheme}://" for scheme in QUEUE_SCHEMES)
        if url is not None and not url.get_secret_value().startswith(starts):
            raise ValueError(f"must begin with {' or '.join(starts)}")
        return url

    @field_validator("queues")
    @classmethod
    def _queue_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not re.fullmatch(QUEUE_NAME, name)]
        if wrong:
            raise ValueError("a queue's name is letters, digits, '.', '_' and '-', at most 63")
        return names

    @field_validator(
        "columns", "allowed_prefixes", "allowed_endpoints", "label_jobs", "queues", "gateway_models",
        "gateway_oidc_scopes", mode="before",
    )  # fmt: skip
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return (
            tuple(p.strip() for p in value.split(",") if p.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("task_params", mode="before")
    @classmethod
    def _parse_json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("json_schema", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, Mapping) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = Path(os.environ.get("HEADRACE_CONFIG", "headrace.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml)


def load_settings(**flags: Any) -> Settings:
    """The settings in force; a flag that is None was not given.

    Raises:
        ConfigError: a value has no meaning, or `headrace.toml` has an unknown name.
    """
    config = os.environ.get("HEADRACE_CONFIG")
    if config and not Path(config).is_file():
        raise ConfigError(f"HEADRACE_CONFIG names {config}, which is not a file")
    _refuse_misspelled(os.environ)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except ValueError as error:  # a headrace.toml that is not TOML
        raise ConfigError(f"{_config_file()} cannot be read: {error}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for e in error.errors(include_url=False, include_input=False):
        name = ".".join(str(p) for p in e["loc"])
        if e["type"] == "extra_forbidden":  # flags are made from the settings: it is the file's
            lines.append(f"{_config_file()}: {name} is no setting{_meant(name, str)}")
        else:
            lines.append(f"{name.replace('_', '-')}: {e['msg']} (also HEADRACE_{name.upper()})")
    return "settings: " + "; ".join(lines)


def _config_file() -> str:
    return os.environ.get("HEADRACE_CONFIG", "headrace.toml")


def _meant(name: str, shown: Callable[[str], str]) -> str:
    near = difflib.get_close_matches(name.lower(), Settings.model_fields, 1, 0.75)
    return f"; did you mean {shown(near[0])}?" if near else ""


_KUBERNETES = re.compile(r".*_(SERVICE_HOST|PORT|PORT_.*|SERVICE_PORT.*)")
"""What Kubernetes sets for a service whose name begins with `headrace`."""


def _refuse_misspelled(variables: Iterable[str]) -> None:
    """Refuse a variable that is almost a setting's; others may be anything.

    Raises:
        ConfigError: says which setting it may mean.
    """
    for variable in sorted(variables):
        name = variable.removeprefix("HEADRACE_").lower()
        is_ours = variable.startswith("HEADRACE_") and not _KUBERNETES.fullmatch(variable)
        if not is_ours or name in Settings.model_fields or len(name) < 6:
            continue
        near = difflib.get_close_matches(name, Settings.model_fields, 1, 0.85)
        if near:
            raise ConfigError(f"{variable} is no setting; did you mean HEADRACE_{near[0].upper()}?")


def state_folder() -> Path:
    """Where headrace keeps what outlives a command and belongs to the user: the registry."""
    return _own_folder("XDG_STATE_HOME", ".local/state")


def cache_folder() -> Path:
    """Where headrace keeps what can be made again: fetched models, the demo."""
    return _own_folder("XDG_CACHE_HOME", ".cache")


def _own_folder(variable: str, below_home: str) -> Path:
    """The user's folder; without a HOME that can be written, one of this user in the temporary folder."""
    base = os.environ.get(variable)
    try:
        folder = Path(base or Path.home() / below_home) / "headrace"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: there is no home, and no such user
        pass
    return _temporary_folder(os.getuid()) / below_home.rpartition("/")[2].lstrip(".")


def is_state_temporary() -> bool:
    """Whether the state folder is one that a restart of the machine may empty."""
    return _temporary_folder(os.getuid()) in state_folder().parents


@cache
def _temporary_folder(user: int) -> Path:
    folder = Path(tempfile.gettempdir()) / f"headrace-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="headrace-"))
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user
    return folder if is_ours else Path(tempfile.mkdtemp(prefix="headrace-"))


def otel_setting(name: str, signal: str | None = None) -> str | None:
    """A variable of OpenTelemetry, `OTEL_EXPORTER_OTLP_ENDPOINT` and the like; None when empty.

    With a signal (`traces`, `metrics`) the signal's own variable comes first. What headrace does
    not decide by (headers, certificates, resource attributes) the SDK reads by itself.
    """
    own = name.replace("_OTLP_", f"_OTLP_{signal.upper()}_") if signal else name
    return os.environ.get(own, "").strip() or os.environ.get(name, "").strip() or None


def metrics_folder() -> Path | None:
    """Where the workers of a host keep what they count; the fleet says so to its children."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "").strip()
    return Path(folder) if folder and Path(folder).is_dir() else None


def process_environment(**changes: str) -> dict[str, str]:
    """This process's environment with the changes laid over it, for a process it starts."""
    return {**os.environ, **changes}


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables, so that a child process has the very same ones."""
    found = {}
    for name, value in settings.model_dump().items():
        if value is None or value == () or value == {}:
            continue
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(value)
        elif isinstance(value, dict):
            value = json.dumps(value)
        found[f"HEADRACE_{name.upper()}"] = str(value)
    return found
