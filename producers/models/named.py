"""A model named by the registry: which version a job's `--model models:/NAME@ALIAS` is now."""

from __future__ import annotations

from headrace.settings import Settings
from producers.models.registry import SCHEME, open_model_registry, parse_address
from schemas.errors import ConfigError, ModelRegistryError
from schemas.records.model_version import ModelVersion


def version_of(settings: Settings, *, any_task: bool = False) -> ModelVersion | None:
    """The version that `model` names at this moment; None where it names a place of its own.

    The job keeps the version's address and digest: an alias that moves later changes no job.
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
    if found.task != settings.task and not any_task:
        raise ModelRegistryError(
            f"{settings.model} is version {found.version}, registered for {found.task}, and the job "
            f"is {settings.task}"
        )
    return found
