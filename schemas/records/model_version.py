"""Records of the model registry: versions, and moves of aliases. They never change."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef

SCHEME = "models:/"
"""How an address of a version begins."""
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
"""A model's or an alias's name: fit for a folder, a key and a shell without quotes."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelVersion(_Record):
    """`NAME/versions/000007.json`: a model by its address and its digest."""

    name: str = Field(pattern=f"^{NAME}$")
    version: int = Field(ge=1)
    model: ModelRef
    task: str
    labels: tuple[str, ...] = ()
    """Names of the labels by class id; empty if the configuration names none."""
    created_s: float
    """Seconds since the epoch."""
    created_by: str = Field(max_length=256)
    note: str = Field("", max_length=4096)


class AliasMove(_Record):
    """`NAME/aliases/champion/000012.json`: the twelfth move of the alias, and the version it points to."""

    name: str = Field(pattern=f"^{NAME}$")
    alias: str = Field(pattern=f"^{NAME}$")
    number: int = Field(ge=1)
    version: int = Field(ge=1)
    previous: int | None
    """The version before; None: this is the first move."""
    moved_s: float
    """Seconds since the epoch."""
    moved_by: str = Field(max_length=256)
    why: str = Field("", max_length=4096)


def parse_version(data: bytes, where: str) -> ModelVersion:
    """A stored version.

    Raises:
        ModelRegistryError: the object holds something else.
    """
    found: ModelVersion = _parse(ModelVersion, data, where)
    return found


def parse_move(data: bytes, where: str) -> AliasMove:
    """A stored move of an alias.

    Raises:
        ModelRegistryError: the object holds something else.
    """
    found: AliasMove = _parse(AliasMove, data, where)
    return found


def _parse(kind: type[Any], data: bytes, where: str) -> Any:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise ModelRegistryError(f"{where} is not a {kind.__name__}: {error}") from error
