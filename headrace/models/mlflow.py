"""A registry of models that an MLflow server keeps, over its REST API.

    registered model        a name; its tags `headrace.move.ALIAS.000012` are the moves of an alias
    model version           `source` is the model's address; tags hold digest, task and labels
    alias                   MLflow's own, so that other clients see what headrace promotes

MLflow moves an alias without a condition, so two who promote at the same moment both succeed, and the
later one stays. Its aliases have no log, so headrace keeps one in tags; a move by another client is
shown as one of MLflow.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headrace.models.mlflow_api import ABSENT, EXISTS, MlflowApi, Refused
from headrace.models.port import ModelAddress, Registry, check_name
from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef
from schemas.records.model_version import NAME, SCHEME, AliasMove, ModelVersion, parse_move

REVISION, TASK, LABELS = "headrace.revision", "headrace.task", "headrace.labels"
"""Tags of a version."""
BY = "headrace.by"
MOVE = "headrace.move."
LOGGED = re.compile(rf"{SCHEME}(?P<id>m-[0-9a-f]+)")
"""The source of a version that was logged to MLflow 3: its files are those of a logged model."""
OTHERS = "MLflow"
"""Who moved an alias, where it was no headrace."""
HUB = "hf://"
"""Before a hub id; without a scheme MLflow takes it for a folder."""
MOST_LABELS = 4_000
"""Characters; required: a tag of MLflow has 5,000 at most."""


class MlflowRegistry(Registry):
    """See `Registry`; of two who promote at the same moment the later one stays."""

    keeps_profiles = False

    def __init__(
        self, uri: str, token: str | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(now)
        self._api = MlflowApi(uri, token)

    def names(self) -> list[str]:
        """See `Registry.names`; names that an address of headrace cannot hold are left out."""
        found = self._api.pages("registered-models/search", "registered_models")
        return sorted(m["name"] for m in found if re.fullmatch(NAME, m["name"]))

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`; those that MLflow has not made ready are left out."""
        found = self._api.pages(
            "model-versions/search", "model_versions", filter=f"name='{check_name(name)}'"
        )
        ready = [self._version(v) for v in found if v.get("status", "READY") == "READY"]
        return sorted(ready, key=lambda version: version.version)

    def _add(self, wanted: ModelVersion) -> ModelVersion:
        """The version as the server has it; the model's files are not copied there.

        Raises:
            ModelRegistryError: a folder of this machine, which MLflow takes only from its own runs.
        """
        name, model = wanted.name, wanted.model
        if model.uri.startswith("/"):
            raise ModelRegistryError(
                f"the MLflow server {self._api.url} takes no folder ({model.uri}): copy the model to a "
                "bucket that the workers read, and register that address"
            )
        try:
            self._api.post("registered-models/create", {"name": name})
        except Refused as error:
            if error.code != EXISTS:
                raise
        names = json.dumps(wanted.labels)
        tags = {REVISION: model.revision, TASK: wanted.task, BY: wanted.created_by}
        if len(names) <= MOST_LABELS:
            tags[LABELS] = names
        made = self._api.post(
            "model-versions/create",
            {
                "name": name,
                "source": model.uri if "://" in model.uri else f"{HUB}{model.uri}",
                "description": wanted.note,
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return self._version(made["model_version"])

    def find(self, address: ModelAddress) -> ModelVersion:
        """See `Registry.find`."""
        try:
            if address.alias is not None:
                found = self._api.get(
                    "registered-models/alias", name=address.name, alias=address.alias
                )
            else:
                found = self._api.get(
                    "model-versions/get", name=address.name, version=address.version
                )
        except Refused as error:
            if error.code not in (ABSENT, "INVALID_PARAMETER_VALUE"):
                raise
            what = f"alias {address.alias}" if address.alias else f"version {address.version}"
            raise ModelRegistryError(
                f"model {address.name} has no {what} in {self._api.url}: {self._listed(address.name)}"
            ) from error
        return self._version(found["model_version"])

    def aliases(self, name: str) -> dict[str, AliasMove]:
        """See `Registry.aliases`."""
        model = self._model(name)
        return {alias: moves[-1] for alias, moves in _moves(name, model).items() if moves}

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """See `Registry.moves`; a move by another client is one more, at the end."""
        return _moves(name, self._model(name)).get(check_name(alias), [])

    def keep_profile(self, version: ModelVersion, profile: bytes) -> None:
        """MLflow has no place for it.

        Raises:
            ModelRegistryError: always; see `keeps_profiles`.
        """
        raise ModelRegistryError(
            f"the MLflow server {self._api.url} has no place for what rows look like: leave --reference "
            "out, and compare with an output (headrace drift --against OUTPUT)"
        )

    def profile(self, version: ModelVersion) -> bytes | None:
        """See `Registry.profile`: there is none."""
        return None

    def _move(self, move: AliasMove, before: Sequence[AliasMove]) -> bool:
        name, alias = move.name, move.alias
        version = str(move.version)
        self._api.post(
            "registered-models/alias", {"name": name, "alias": alias, "version": version}
        )
        for it in (*(m for m in before[-1:] if m.moved_by == OTHERS), move):
            key, value = _move_key(alias, it.number), it.model_dump_json()
            self._api.post("registered-models/set-tag", {"name": name, "key": key, "value": value})
        return True

    def _model(self, name: str) -> Mapping[str, Any]:
        """The registered model as the server has it; empty where there is none."""
        try:
            found = self._api.get("registered-models/get", name=check_name(name))
        except Refused as error:
            if error.code == ABSENT:
                return {}
            raise
        model: Mapping[str, Any] = found["registered_model"]
        return model

    def _version(self, found: Mapping[str, Any]) -> ModelVersion:
        tags = _tags(found)
        return ModelVersion(
            name=check_name(found["name"]),
            version=int(found["version"]),
            model=ModelRef(uri=self._address(found), revision=tags.get(REVISION, "")),
            task=tags.get(TASK, ""),
            labels=_labels(tags.get(LABELS, "[]")),
            created_s=int(found.get("creation_timestamp") or 0) / 1000,
            created_by=(tags.get(BY) or found.get("user_id") or "")[:256],
            note=(found.get("description") or "")[:4096],
        )

    def _address(self, found: Mapping[str, Any]) -> str:
        """Where the files are, as a worker reads them.

        Raises:
            ModelRegistryError: only MLflow's own clients can reach them.
        """
        source = str(found.get("source") or "")
        if logged := LOGGED.fullmatch(source):
            model = self._api.get(f"logged-models/{logged['id']}")["model"]
            source = str(model["info"].get("artifact_uri") or "")
        return source.removeprefix("file://").removeprefix(HUB)


def _moves(name: str, model: Mapping[str, Any]) -> dict[str, list[AliasMove]]:
    """The moves of each alias, from the tags that headrace wrote and the aliases as they are."""
    found = {alias: list[AliasMove]() for alias in _aliases(model)}
    for key, value in sorted(_tags(model).items()):
        if key.startswith(MOVE):
            alias = key.removeprefix(MOVE).rpartition(".")[0]
            if alias in found:  # else another client took it away
                found[alias].append(parse_move(value.encode(), f"tag {key} of {name}"))
    for alias, version in _aliases(model).items():
        moves = found[alias]
        before = moves[-1].version if moves else None
        if before != version:
            made_s = int(model.get("last_updated_timestamp") or 0) / 1000
            moves.append(
                AliasMove(
                    name=name, alias=alias, number=len(moves) + 1, version=version, previous=before,
                    moved_s=max(moves[-1].moved_s if moves else 0.0, made_s),
                    moved_by=OTHERS, why="moved by another client",
                )
            )  # fmt: skip
    return found


def _labels(tag: str) -> tuple[str, ...]:
    """The labels in a tag; none if another client has written it in another form."""
    try:
        found = json.loads(tag)
    except (ValueError, RecursionError):
        return ()
    is_list = isinstance(found, list) and all(isinstance(it, str) for it in found)
    return tuple(found) if is_list else ()


def _aliases(model: Mapping[str, Any]) -> dict[str, int]:
    found = {a["alias"]: int(a["version"]) for a in model.get("aliases") or ()}
    return {alias: version for alias, version in found.items() if re.fullmatch(NAME, alias)}


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return dict(_pairs(found))


def _pairs(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for tag in found.get("tags") or ():
        yield str(tag["key"]), str(tag.get("value", ""))


def _move_key(alias: str, number: int) -> str:
    return f"{MOVE}{alias}.{number:06d}"
