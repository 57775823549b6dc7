"""Resolves a job's `--model models:/NAME@ALIAS` to the version that the registry names now."""

from __future__ import annotations

from headrace.models.registry import open_model_registry, parse_address
from headrace.settings import Settings
from schemas.errors import ConfigError, ModelRegistryError
from schemas.records.model_version import SCHEME, ModelVersion


def version_of(settings: Settings, *, any_task: bool = False) -> ModelVersion | None:
    """The version that `model` names now; None if it is a folder or a hub id.

    The job stores the version's address and digest, so moving the alias later changes no job. A version
    that another client of MLflow registered has neither task nor digest: the job takes its own task,
    and the digest of what is there now.
    `any_task`: a base, whose head is replaced, may be registered for another task.

    Raises:
        ModelRegistryError: there is no such version or alias, or it is for another task.
        ConfigError: a revision beside a version, which has its own.
    """
    if settings.model is None or not settings.model.startswith(SCHEME):
        return None
    if settings.revision is not None:
        raise ConfigError(f"{settings.model} is pinned already: leave --revision out")
    found = open_model_registry(settings).find(parse_address(settings.model))
    if found.task and found.task != settings.task and not any_task:
        raise ModelRegistryError(
            f"{settings.model} is version {found.version}, registered for {found.task}, and the job "
            f"is {settings.task}"
        )
    return found
