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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headrace.settings import Settings, state_folder
from headrace.storage.store import Store
from schemas.errors import ModelRegistryError
from schemas.records.job import ModelRef
from schemas.records.model_version import (
    NAME,
    AliasMove,
    ModelVersion,
    parse_move,
    parse_version,
)

SCHEME = "models:/"
_NAMED = re.compile(rf"{SCHEME}(?P<name>{NAME})(?:@(?P<alias>{NAME})|/(?P<version>[0-9]{{1,9}}))")
_TRIES = 100
"""Chosen: a registration that meets this many others at once gives up."""


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """`models:/reviews@champion` or `models:/reviews/7`: a version by alias or by number."""

    name: str
    alias: str | None = None
    version: int | None = None


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


def open_model_registry(settings: Settings) -> ModelRegistry:
    """The registry of the setting `model_registry`; by default `models/` in the state folder."""
    from headrace.storage.open import open_store

    uri = settings.model_registry or str(state_folder() / "models")
    # the registry is chosen by the user, not by a job
    return ModelRegistry(open_store(uri, settings.model_copy(update={"allowed_prefixes": ()})))


class ModelRegistry:
    """Versions and aliases in a store; safe for any number of processes.

    Every method raises StorageError (or its kin) when the store fails.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def names(self) -> list[str]:
        """The names of all models with a version."""
        return sorted({info.name.split("/")[0] for info in self._store.list() if "/" in info.name})

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of a model, the first one first; empty where there is none."""
        return [
            parse_version(data, f"{self._store.uri}/{key}")
            for key, data in self._read_all(f"{_name(name)}/versions/")
        ]

    def register(
        self,
        name: str,
        model: ModelRef,
        *,
        task: str,
        labels: tuple[str, ...] = (),
        by: str = "",
        note: str = "",
    ) -> ModelVersion:
        """Register a version; the same model and task again returns the existing version.

        Raises:
            ModelRegistryError: the name is not one, or too many others register at once.
        """
        for _ in range(_TRIES):
            known = self.versions(name)
            for version in known:
                if (version.model, version.task) == (model, task):
                    return version
            fresh = ModelVersion(
                name=name,
                version=known[-1].version + 1 if known else 1,
                model=model,
                task=task,
                labels=labels,
                created_s=self._now(),
                created_by=by,
                note=note,
            )
            if self._store.create(_version_key(name, fresh.version), _json(fresh)):
                return fresh
        raise ModelRegistryError(f"{name}: {_TRIES} other versions were registered meanwhile")

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
        for key, data in self._read_all(f"{_name(name)}/aliases/"):
            move = parse_move(data, f"{self._store.uri}/{key}")
            last[move.alias] = move  # listed in order of name, so the last one stays
        return last

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """Every move of an alias, the first one first."""
        return [
            parse_move(data, f"{self._store.uri}/{key}")
            for key, data in self._read_all(f"{_name(name)}/aliases/{_name(alias)}/")
        ]

    def keep_profile(self, version: ModelVersion, profile: bytes) -> None:
        """Store the profile of the version's rows when it was made; replaces an earlier one."""
        self._store.replace(_profile_key(version.name, version.version), profile)

    def profile(self, version: ModelVersion) -> bytes | None:
        """The stored profile; None if there is none."""
        return self._store.read(_profile_key(version.name, version.version))

    def promote(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        seen: int | None = None,
        by: str = "",
        why: str = "",
    ) -> AliasMove:
        """Point the alias at a version; if it points there already, that last move is returned.

        `seen` is the number of the last move that the caller knew when it decided, 0 for none:
        the alias moves only if no other move came since. With None it moves in any case.

        Raises:
            ModelRegistryError: no such version; another moved the alias since, or at this moment.
        """
        self.find(ModelAddress(name, version=version))
        moves = self.moves(name, alias)
        if seen is not None and seen != len(moves):
            raise _moved(name, alias, moves)
        now = moves[-1].version if moves else None
        if now == version:
            return moves[-1]
        move = AliasMove(
            name=name,
            alias=alias,
            number=len(moves) + 1,
            version=version,
            previous=now,
            moved_s=self._now(),
            moved_by=by,
            why=why,
        )
        if not self._store.create(_move_key(name, alias, move.number), _json(move)):
            raise _moved(name, alias, self.moves(name, alias))
        return move

    def roll_back(self, name: str, alias: str, *, by: str = "", why: str = "") -> AliasMove:
        """Point the alias at the version before its last move.

        Rolling back twice undoes the first: a roll-back is a move like any other.

        Raises:
            ModelRegistryError: the alias has not moved yet, or another moved it at this moment.
        """
        moves = self.moves(name, alias)
        if not moves or moves[-1].previous is None:
            raise ModelRegistryError(
                f"{SCHEME}{name}@{alias} has no version before: {self._listed(name)}"
            )
        last = moves[-1]
        assert last.previous is not None
        return self.promote(name, alias, last.previous, seen=last.number, by=by, why=why)

    def _read_all(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        for info in self._store.list(prefix):
            data = self._store.read(info.name)
            if data is not None:
                yield info.name, data

    def _listed(self, name: str) -> str:
        versions = [str(v.version) for v in self.versions(name)]
        if not versions:
            return f"it knows {', '.join(self.names()) or 'no model'}"
        aliases = [f"{a} → {m.version}" for a, m in self.aliases(name).items()]
        return f"versions {', '.join(versions)}; aliases {', '.join(aliases) or 'none'}"


def _moved(name: str, alias: str, moves: list[AliasMove]) -> ModelRegistryError:
    now = f"version {moves[-1].version}, moved by {moves[-1].moved_by}" if moves else "nothing"
    return ModelRegistryError(f"{SCHEME}{name}@{alias} points to {now}: look again, then decide")


def _name(name: str) -> str:
    if re.fullmatch(NAME, name) is None:
        raise ModelRegistryError(
            f"{name!r} is no name: small letters, digits, '.', '_' and '-', 64 at most"
        )
    return name


def _version_key(name: str, version: int) -> str:
    return f"{_name(name)}/versions/{version:06d}.json"


def _profile_key(name: str, version: int) -> str:
    return f"{_name(name)}/profiles/{version:06d}.profile"


def _move_key(name: str, alias: str, number: int) -> str:
    return f"{_name(name)}/aliases/{_name(alias)}/{number:06d}.json"


def _json(record: ModelVersion | AliasMove) -> bytes:
    return (record.model_dump_json(indent=1) + "\n").encode()
