"""Versions of models and the aliases that point to them, in a folder or a bucket; no server.

    NAME/versions/000007.json            created only if absent, never changed
    NAME/profiles/000007.profile         what rows looked like when it was made; may be replaced
    NAME/aliases/champion/000012.json    the twelfth move of the alias, created only if absent

The last move says where an alias points. Each move has a number, and if two processes write the
same number, exactly one wins. So promotion is a compare-and-swap, and the moves are the audit log.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence

from headrace.models.mlflow import MlflowRegistry
from headrace.models.mlflow_api import SCHEMES
from headrace.models.port import ModelAddress, Registry, check_name
from headrace.settings import Settings, state_folder
from headrace.storage.store import Store
from schemas.errors import ModelRegistryError
from schemas.records.model_version import (
    NAME,
    SCHEME,
    AliasMove,
    ModelVersion,
    parse_move,
    parse_version,
)

_NAMED = re.compile(rf"{SCHEME}(?P<name>{NAME})(?:@(?P<alias>{NAME})|/(?P<version>[0-9]{{1,9}}))")


def parse_address(text: str) -> ModelAddress:
    """The address in the text.

    Raises:
        ModelRegistryError: it is neither `models:/NAME@ALIAS` nor `models:/NAME/NUMBER`.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ModelRegistryError(
            f"{text} names no version: write {SCHEME}NAME@ALIAS or {SCHEME}NAME/NUMBER, with names "
            "of small letters, digits, '.', '_' and '-'"
        )
    number = found["version"]
    return ModelAddress(found["name"], found["alias"], None if number is None else int(number))


def open_model_registry(settings: Settings) -> Registry:
    """The registry of the setting `model_registry`; by default `models/` in the state folder.

    Raises:
        ConfigError: an MLflow server's address that cannot be used.
    """
    from headrace.storage.open import open_store

    uri = settings.model_registry or str(state_folder() / "models")
    if uri.startswith(SCHEMES):
        token = settings.model_registry_token
        return MlflowRegistry(uri, token.get_secret_value() if token else None)
    # the registry is chosen by the user, not by a job
    return ModelRegistry(open_store(uri, settings.model_copy(update={"allowed_prefixes": ()})))


class ModelRegistry(Registry):
    """Versions and aliases in a store, see `Registry`; safe for any number of processes."""

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self._store = store

    def names(self) -> list[str]:
        """The names of all models with a version."""
        return sorted({info.name.split("/")[0] for info in self._store.list() if "/" in info.name})

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a model, the first one first; empty where there is none."""
        return [
            parse_version(data, f"{self._store.uri}/{key}")
            for key, data in self._read_all(f"{check_name(name)}/versions/")
        ]

    def find(self, address: ModelAddress) -> ModelVersion:
        """The version that the address names now.

        Raises:
            ModelRegistryError: there is no such version or alias; the message lists what there is.
        """
        number = address.version
        if address.alias is not None:
            moves = self.moves(address.name, address.alias)
            if not moves:
                raise ModelRegistryError(
                    f"model {address.name} has no alias {address.alias} in {self._store.uri}: "
                    f"{self._listed(address.name)}"
                )
            number = moves[-1].version
        data = self._store.read(_version_key(address.name, number or 0))
        if data is None:
            raise ModelRegistryError(
                f"model {address.name} has no version {number} in {self._store.uri}: "
                f"{self._listed(address.name)}"
            )
        return parse_version(data, f"{self._store.uri}/{_version_key(address.name, number or 0)}")

    def aliases(self, name: str) -> dict[str, AliasMove]:
        """The last move of each alias of a model."""
        last: dict[str, AliasMove] = {}
        for key, data in self._read_all(f"{check_name(name)}/aliases/"):
            move = parse_move(data, f"{self._store.uri}/{key}")
            last[move.alias] = move  # listed in order of name, so the last one stays
        return last

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """Every move of an alias, the first one first."""
        return [
            parse_move(data, f"{self._store.uri}/{key}")
            for key, data in self._read_all(f"{check_name(name)}/aliases/{check_name(alias)}/")
        ]

    def keep_profile(self, version: ModelVersion, profile: bytes) -> None:
        """Store the profile of the version's rows when it was made; replaces an earlier one."""
        self._store.replace(_profile_key(version.name, version.version), profile)

    def profile(self, version: ModelVersion) -> bytes | None:
        """The stored profile; None if there is none."""
        return self._store.read(_profile_key(version.name, version.version))

    def _add(self, wanted: ModelVersion) -> ModelVersion | None:
        key = _version_key(wanted.name, wanted.version)
        return wanted if self._store.create(key, _json(wanted)) else None

    def _move(self, move: AliasMove, before: Sequence[AliasMove]) -> bool:
        return self._store.create(_move_key(move.name, move.alias, move.number), _json(move))

    def _read_all(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        for info in self._store.list(prefix):
            data = self._store.read(info.name)
            if data is not None:
                yield info.name, data


def _version_key(name: str, version: int) -> str:
    return f"{check_name(name)}/versions/{version:06d}.json"


def _profile_key(name: str, version: int) -> str:
    return f"{check_name(name)}/profiles/{version:06d}.profile"


def _move_key(name: str, alias: str, number: int) -> str:
    return f"{check_name(name)}/aliases/{check_name(alias)}/{number:06d}.json"


def _json(record: ModelVersion | AliasMove) -> bytes:
    return (record.model_dump_json(indent=1) + "\n").encode()
