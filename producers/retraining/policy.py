"""A retraining policy: a small TOML file, and the id of its run on a day. Pure.

name = "reviews"                      # of the model in the registry
data = ["labelled/*.parquet"]         # {date} and its kin become dates
output = "retraining"
holdout = "holdout.parquet"
promote = "never"                     # or "gate"
[triggers]
every_days = 30
[gate]
min_accuracy_delta = -0.005
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConfigError
from schemas.records.model_version import NAME
from schemas.records.training import ModelTask

OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DriftWatch(_Table):
    """The comparison of outputs that a trigger uses."""

    output: str
    against: str
    nights: str | None = None
    floor: str | None = None


class Triggers(_Table):
    """Reasons to train; one is enough. Without any, every call trains: then cron decides."""

    every_days: int | None = Field(None, ge=1)
    """Days since the last training of this policy."""
    drift: bool = False
    """A feature of the watched output has drifted."""
    min_expected_accuracy: float | None = Field(None, gt=0, le=1)
    """The accuracy expected from the watched output's scores is lower."""
    new_labels: int | None = Field(None, ge=1)
    """Number of labelled rows added since the last training."""

    @property
    def are_none(self) -> bool:
        return self == NO_TRIGGERS

    @property
    def need_watch(self) -> bool:
        return self.drift or self.min_expected_accuracy is not None


class GateTable(_Table):
    """Conditions for the candidate; see `producers.quality.paired.Gate`."""

    min_accuracy_delta: float | None = None
    min_f1_delta: float | None = None
    max_flips: float | None = None
    slices: dict[str, float] = Field(default_factory=dict)


NO_TRIGGERS = Triggers.model_validate({})
NO_GATE = GateTable.model_validate({})


class Policy(_Table):
    """What is trained, when, how it is evaluated, and how it is promoted."""

    name: str = Field(pattern=f"^{NAME}$")
    data: tuple[str, ...] = Field(min_length=1)
    output: str
    """Folder or prefix: each training gets a folder of its own in it."""
    holdout: str
    """Labelled rows that no training sees."""
    task: ModelTask = "text-classification"
    tokens_column: str | None = None
    """Of token classification: the tokens that the label column's tags belong to; None: spans."""
    label_column: str = "label"
    text_column: str = "text"
    id_column: str = "id"
    base: str | None = None
    """The model to begin with; None: the current champion."""
    alias: str = Field("champion", pattern=f"^{NAME}$")
    promote: Literal["never", "gate"] = "never"
    map: str | None = None
    """Names for gold labels, e.g. `0=negative,1=positive`."""
    train: dict[OptionName, str | int | float | bool] = Field(default_factory=dict)
    """More options of `headrace train`, e.g. `epochs = 2`."""
    triggers: Triggers = Field(default_factory=lambda: NO_TRIGGERS)
    watch: DriftWatch | None = None
    gate: GateTable = Field(default_factory=lambda: NO_GATE)


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        ConfigError: the file is missing, no TOML, or says what no policy can.
    """
    try:
        found = Policy.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if found.triggers.need_watch and found.watch is None:
        raise ConfigError(
            f"{path}: the triggers look at drift: say which output against which in [watch]"
        )
    _check_task(path, found)
    if found.promote == "gate" and found.gate == NO_GATE:
        raise ConfigError(f'{path}: promote = "gate" needs a [gate]')
    return found


def _check_task(path: Path, policy: Policy) -> None:
    """Check that the policy says only what its task has. Raises ConfigError."""
    is_of_entities = policy.task == "token-classification"
    if is_of_entities and policy.gate.min_accuracy_delta is not None:
        raise ConfigError(f"{path}: a gate of entities has min_f1_delta, not min_accuracy_delta")
    if is_of_entities and policy.map is not None:
        raise ConfigError(f"{path}: map is for labels of whole texts: name the tags in the files")
    if is_of_entities and policy.triggers.min_expected_accuracy is not None:
        raise ConfigError(f"{path}: no accuracy is expected of entities: leave the trigger out")
    if not is_of_entities and (policy.gate.min_f1_delta is not None or policy.tokens_column):
        raise ConfigError(
            f'{path}: min_f1_delta and tokens_column are for task = "token-classification"'
        )


def run_id(policy: Policy, day: date) -> str:
    """12 hex digits: the same for one policy and day, however often it is asked for."""
    said = policy.model_dump(mode="json")
    if policy.task == "text-classification":  # which has the id that it had before entities
        del said["tokens_column"], said["gate"]["min_f1_delta"]
    record: dict[str, Any] = {"policy": said, "date": day.isoformat()}
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def train_options(policy: Policy) -> list[str]:
    """The table `[train]` as options of `headrace train`."""
    found: list[str] = []
    for name, value in policy.train.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not False:
            found += [flag, str(value)]
    return found
