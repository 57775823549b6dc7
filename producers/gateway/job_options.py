"""Options that a request may set: those of `submit`, except for the gateway host's own."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from headrace.setting_fields import declared_settings
from headrace.settings import Settings
from headrace.tasks.candidate_labels import labels_of
from headrace.tasks.catalog import BUILT_IN
from schemas.errors import ConfigError, InvalidRow

REFUSED = {
    "trust_remote_code": "code of a model runs only where the operator says so",
    "allow_pickle": "the same",
    "on_finish": "it runs on the gateway",
    "vllm_python": "it names a program, which the gateway would start",
    "wait_for": "a request does not wait",
    "give_up_after": "the same",
    "registry": "the gateway's",
    "workers": "the fleet's",
    "device": "the fleet's",
    "literal": "given by the form of the input",
    "task_params": "options have names",
    "chat_template": "it names a file, which would be the gateway's",
    "endpoint": "the workers' key would be sent there",
    "price_per_hour": "the operator's",
    "accept_precision": "the operator's",
    "precision_floor": "the operator's",
    "precision_rows": "the operator's",
    **{
        name: "the gateway's"
        for name, it in declared_settings().items()
        if it.group == "Object store"
    },
}
"""Options of `submit` that requests may not set, and why."""
OTHERWISE: dict[str, Any] = {"columns": list[str], "json_schema": dict[str, Any]}
"""Options that a request gives in another form than the command: a schema itself, and no file."""


def _fields() -> dict[str, Any]:
    """A field for each option, unset by default, as the settings check it."""
    names = [name for name, it in declared_settings().items() if it.group is not None]
    names += [param.name for task in BUILT_IN.values() for param in task.params]
    found: dict[str, Any] = {}
    for name in names:
        if name in REFUSED:
            continue
        field = Settings.model_fields[name]
        kind: Any = OTHERWISE.get(name, field.annotation)
        found[name] = (kind | None, Field(None, description=field.description))
    return found


class _Job(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input: str | list[str] = Field(
        description="a file, folder, glob or s3:// prefix, or several", min_length=1
    )
    output: str = Field(
        description="folder or s3:// prefix for the results", min_length=1, max_length=1024
    )


NewJob: Any = create_model("NewJob", __base__=_Job, **_fields())
"""The body of a submission."""


def options_in(new: Any) -> dict[str, Any]:
    """The options that a body gives, by their names as settings.

    Raises:
        ConfigError: labels that cannot be used.
    """
    given = new.model_dump(exclude_none=True, exclude={"input", "output"})
    for name in ("candidate_labels", "choices"):
        if name in given:
            given[name] = _never_a_file(name, given[name])
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def _never_a_file(name: str, labels: str) -> str:
    """Labels as a JSON array: the command takes the name of a file too, here the gateway's own."""
    try:
        return json.dumps(labels_of(labels), ensure_ascii=False)
    except InvalidRow as error:
        raise ConfigError(f"{name}: {error}") from error
